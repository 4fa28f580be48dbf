"""The command ``state`` on a run of seconds: the map is that of its own particles, which are written with weights."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cryoformer.cli import main
from cryoformer.files import read_mrc_volume
from cryoformer.formats.load import open_particle_file
from cryoformer.imaging.fsc import fourier_shell_correlation
from cryoformer.run.run_folder import open_run
from toy_images import BOX, PIXEL, moving_centre


@pytest.fixture(scope="module")
def made(swinging_run: tuple[Path, np.ndarray]) -> tuple[Path, Path, np.ndarray]:
    """A run on images of a blob that swings, the state of one end, and where the blob is in every image."""
    folder, t = swinging_run[0].parent, swinging_run[1]
    latents = open_run(folder / "run").latents[:, 0]
    end = float(np.quantile(latents - latents.mean(), 0.92))
    axis = open_run(folder / "run").latents
    np.save(folder / "z.npy", axis[np.abs(latents - latents.mean() - end).argmin()])
    assert main(["state", str(folder / "run"), "--at", str(folder / "z.npy"), "-o", str(folder / "state")]) == 0
    return folder / "run", folder / "state", t


def volume(folder: Path, name: str) -> np.ndarray:
    return read_mrc_volume(folder / f"{name}.mrc")[0]


def test_the_blob_is_where_the_particles_of_the_state_have_it(made: tuple[Path, Path, np.ndarray]) -> None:
    run, state, t = made
    weights = np.loadtxt(state / "weights.csv", delimiter=",", skiprows=1)[:, 1]
    there = float(weights @ t / weights.sum())
    assert abs(there - 0.5) > 0.15  # an end, not the middle
    region = slice(BOX // 2 - 8, BOX // 2 + 9)
    column = volume(state, "state")[BOX // 2 + 1, region, BOX // 2 + round(moving_centre(0)[0] / PIXEL)].clip(0)
    y = PIXEL * float(np.arange(-8, 9) @ column / column.sum())
    assert y == pytest.approx(moving_centre(there)[1], abs=6.0)
    everything = read_mrc_volume(run / "volumes" / "consensus.mrc")[0]
    middle = everything[BOX // 2 + 1, region, BOX // 2 + round(moving_centre(0)[0] / PIXEL)].clip(0)
    assert abs(PIXEL * float(np.arange(-8, 9) @ middle / middle.sum())) < 0.5 * abs(y)


def test_half_maps_are_of_the_runs_halves_and_independent(made: tuple[Path, Path, np.ndarray]) -> None:
    run, state, _ = made
    table = np.loadtxt(state / "weights.csv", delimiter=",", skiprows=1)
    assert np.array_equal(table[:, 0], np.arange(600))
    assert set(table[:, 2]) == {1, 2}
    one, two = volume(state, "half1"), volume(state, "half2")
    fsc = fourier_shell_correlation(one, two)
    assert fsc[2] > 0.8
    assert np.abs(one - two).max() > 0.01 * one.max()
    # Where nothing moves, all particles tell of it.
    still = volume(state, "moving") == 0
    weighted = volume(state, "weighted_half1")
    own = open_run(run).half_maps[0]
    assert np.corrcoef(one[still], own[still])[0, 1] > np.corrcoef(weighted[still], own[still])[0, 1]


def test_facts_say_what_was_found(made: tuple[Path, Path, np.ndarray]) -> None:
    _, state, _ = made
    facts = json.loads((state / "state.json").read_text())
    assert 0 < facts["effective_particles"] < 600
    assert facts["nyquist_angstrom"] == 2 * PIXEL
    assert facts["resolution_angstrom"]["molecule"] >= 2 * PIXEL
    header, *rows = (state / "fsc.csv").read_text().splitlines()
    assert header == "frequency_per_angstrom,fsc_molecule,fsc_moving"
    assert len(rows) == BOX // 2 + 1


def test_particles_come_with_weights_and_halves(made: tuple[Path, Path, np.ndarray]) -> None:
    run, state, _ = made
    table = np.loadtxt(state / "weights.csv", delimiter=",", skiprows=1)
    kept = table[table[:, 1] >= 0.01]
    written = open_particle_file(state / "particles.star").columns()
    assert len(written) == len(kept) < 600
    assert np.allclose(written["rlnParticleFigureOfMerit"], kept[:, 1], rtol=1e-4)
    assert np.array_equal(written["rlnRandomSubset"], kept[:, 2])
    source = open_particle_file(run.parent / "particles.star").columns()
    columns = ["rlnAngleRot", "rlnDefocusU"]
    assert np.array_equal(written[columns].to_numpy(), source[columns].to_numpy()[kept[:, 0].astype(int)])


@pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="RELION is not installed")
def test_relion_makes_the_weighted_map_from_the_particles(made: tuple[Path, Path, np.ndarray]) -> None:
    _, state, _ = made
    maps = []
    for name, options in (("weighted", ["--fom_weighting"]), ("plain", [])):
        command = ["relion_reconstruct", "--i", "state/particles.star", "--o", f"state/{name}.mrc", "--ctf", "--subset"]
        subprocess.run([*command, "1", *options], cwd=state.parent, check=True, capture_output=True)
        maps.append(volume(state, name))
    weighted, plain = (fourier_shell_correlation(found, volume(state, "weighted_half1")) for found in maps)
    assert weighted[1:5].min() > 0.98
    # Beyond what the images show there is their noise alone, and it is the same noise only with the same weights.
    assert weighted[6:11].mean() > plain[6:11].mean() + 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "say which state"),
        (["--cluster", "1", "--at", "0"], "say which state"),
        (["--cluster", "1"], "cryoformer analyze"),
        (["--at", "0", "--min-weight", "2"], "--min-weight 2: expected a number from 0 to 1"),
        (["--at", "x.npy"], "--at x.npy: cannot be read"),
    ],
)
def test_what_cannot_be(
    made: tuple[Path, Path, np.ndarray],
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["state", str(made[0]), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(made: tuple[Path, Path, np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["state", str(made[0]), "--at", "0", "--out", str(made[1])]) == 2
    assert "exists and is not empty" in capsys.readouterr().err

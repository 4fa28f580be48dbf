"""Whole simulations: what is written, whether it is what it says, and what happens when it cannot be done."""

import json
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
import torch

from cryoformer.errors import InputError
from cryoformer.files import read_mrc_volume
from cryoformer.formats.load import load_particles
from cryoformer.imaging.ctf import contrast_transfer
from cryoformer.imaging.fourier import fourier_to_images, images_to_fourier
from cryoformer.imaging.reference import project_volume_reference
from cryoformer.simulate.simulate_config import SimulateConfig
from cryoformer.simulate.stack import simulate
from cryoformer.simulate.structures import adk_models, read_models

from .test_keyframes import made_up

BOX, PIXEL = 32, 3.0


def run(folder: Path, **changes: object) -> Path:
    settings = {
        "models": adk_models(),
        "out": folder,
        "images": 64,
        "box": BOX,
        "pixel_size_angstrom": PIXEL,
        "snr": 0.5,
        "states": 3,
        "seed": 1,
    }
    return simulate(SimulateConfig(**settings | changes))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("noisy") / "set")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("clean") / "set", snr=float("inf"), motion="discrete", images=16)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folder_holds_exactly_what_is_promised(noisy: Path) -> None:
    states = [f"{folder}/state_{n:02d}.{kind}" for folder, kind in (("gt", "mrc"), ("models", "cif")) for n in range(3)]
    expected = {"particles.mrcs", "particles.star", "truth.npz", "simulation.json", *states}
    assert set(contents(noisy)) == expected
    assert [path.name for path in noisy.parent.iterdir()] == ["set"]


def test_stack_is_a_valid_float16_image_stack(noisy: Path) -> None:
    # Not permissive: any fault of the header or of the file's length raises.
    with mrcfile.open(noisy / "particles.mrcs", permissive=False) as mrc:
        assert int(mrc.header.mode) == 12
        assert mrc.is_image_stack()
        assert mrc.data.shape == (64, BOX, BOX)
        assert float(mrc.voxel_size.x) == pytest.approx(PIXEL)
        data = mrc.data.astype(np.float64)
        assert float(mrc.header.dmean) == pytest.approx(data.mean(), rel=1e-3)
        assert float(mrc.header.rms) == pytest.approx(data.std(), rel=1e-3)
        assert (float(mrc.header.dmin), float(mrc.header.dmax)) == (data.min(), data.max())


def test_clean_images_are_what_star_file_and_true_volumes_say(clean: Path) -> None:
    """The whole chain of conventions, closed by code that shares nothing with the projection of atoms."""
    particles = load_particles(clean / "particles.star")
    images = particles.images(np.arange(16))
    truth = np.load(clean / "truth.npz")
    transfer = contrast_transfer(particles.ctf, BOX, PIXEL)
    for index, state in enumerate(truth["state"]):
        volume, _ = read_mrc_volume(clean / "gt" / f"state_{state:02d}.mrc")
        projection = project_volume_reference(
            torch.from_numpy(volume),
            torch.from_numpy(particles.rotations[index]).float(),
            torch.from_numpy(particles.shifts_angstrom[index]).float(),
            PIXEL,
        )
        expected = fourier_to_images(images_to_fourier(projection) * transfer[index], BOX).numpy()
        # Linear interpolation of the reference costs the finest detail: 0.99 and not 1.
        assert np.corrcoef(images[index].ravel(), expected.ravel())[0, 1] > 0.985
        # White protein: the image's sum is the amplitude contrast times that of the volume.
        assert images[index].sum() == pytest.approx(0.1 * volume.sum(), rel=0.02)


def test_truth_agrees_with_the_star_file(noisy: Path) -> None:
    particles = load_particles(noisy / "particles.star")
    truth = np.load(noisy / "truth.npz")
    assert set(truth.files) == {
        "t", "state", "state_t", "rotations", "origins_angstrom", "defocus", "snr", "apix",
    }  # fmt: skip
    np.testing.assert_allclose(particles.rotations, truth["rotations"], atol=1e-6)
    np.testing.assert_allclose(particles.shifts_angstrom, -truth["origins_angstrom"], atol=1e-5)
    np.testing.assert_allclose(particles.ctf.defocus_u_angstrom, truth["defocus"][:, 0], atol=0.01)
    np.testing.assert_allclose(particles.ctf.defocus_v_angstrom, truth["defocus"][:, 1], atol=0.01)
    assert particles.pixel_size_angstrom == PIXEL
    assert particles.half_set is not None
    np.testing.assert_array_equal(particles.half_set, np.arange(64) % 2 + 1)
    table = starfile.read(noisy / "particles.star", always_dict=True)["particles"]
    assert table["rlnImageName"].iloc[-1] == "000064@particles.mrcs"


@pytest.mark.parametrize("snr", [2.0, 0.05])
def test_snr_is_the_ratio_of_variances_over_the_whole_stack(tmp_path: Path, snr: float) -> None:
    without, with_noise = run(tmp_path / "a", snr=float("inf")), run(tmp_path / "b", snr=snr)
    clean, noisy = (mrcfile.read(path / "particles.mrcs").astype(np.float64) for path in (without, with_noise))
    noise = noisy - clean
    # 65,536 pixels: the variance of the noise is known to 0.6 percent.
    assert clean.var() / noise.var() == pytest.approx(snr, rel=0.03)
    assert noise.mean() == pytest.approx(0.0, abs=4 * noise.std() / 256)
    neighbours = np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.02
    # The same number for every image, however strong its signal.
    assert noise.std(axis=(1, 2)).std() / noise.std() < 0.04


def test_same_settings_give_the_same_bytes_and_another_seed_others(noisy: Path, tmp_path: Path) -> None:
    # Some libraries write the time of day, in whole seconds, into what they make.
    time.sleep(1.1)
    assert contents(run(tmp_path / "again")) == contents(noisy)
    other = contents(run(tmp_path / "other", seed=2))
    for name in ("particles.mrcs", "particles.star", "truth.npz"):
        assert other[name] != contents(noisy)[name]
    assert other["gt/state_00.mrc"] == contents(noisy)["gt/state_00.mrc"]


def test_batches_do_not_matter(noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoformer.simulate.stack.BATCH_NUMBERS", 1)
    monkeypatch.setattr("cryoformer.simulate.stack.NOISE_IMAGES", 7)
    one_by_one = mrcfile.read(run(tmp_path / "set") / "particles.mrcs").astype(np.float64)
    together = mrcfile.read(noisy / "particles.mrcs").astype(np.float64)
    # Rounding to float16 may fall on the other side.
    np.testing.assert_allclose(one_by_one, together, rtol=2e-3, atol=2e-3)


def test_states_are_one_molecule_centred_in_the_box(noisy: Path) -> None:
    volumes = [read_mrc_volume(path)[0] for path in sorted((noisy / "gt").iterdir())]
    models = [read_models([path])[0].positions_angstrom for path in sorted((noisy / "models").iterdir())]
    sums = [volume.sum() for volume in volumes]
    assert np.ptp(sums) < 1e-3 * sums[0]
    np.testing.assert_allclose(np.mean(models, axis=(0, 1)), 0.0, atol=1e-3)
    grid = (np.arange(BOX) - BOX // 2) * PIXEL
    for volume, atoms in zip(volumes, models, strict=True):
        mass = volume.sum()
        centre = [(volume.sum(axis=axes) * grid).sum() / mass for axes in ((0, 1), (0, 2), (1, 2))]
        # Heavier elements pull the centre of mass a little off the centroid of the atoms.
        np.testing.assert_allclose(centre, atoms.mean(axis=0), atol=0.2)


def test_only_the_moving_domains_change_between_states(noisy: Path) -> None:
    first, _, last = (read_models([path])[0] for path in sorted((noisy / "models").iterdir()))
    moved = np.linalg.norm(last.positions_angstrom - first.positions_angstrom, axis=1)
    numbers = np.array([first.residues[i].number for i in first.atom_residue])
    assert moved[np.isin(numbers, [1, 10, 80, 100, 200])].max() < 0.01
    assert moved[np.isin(numbers, np.arange(125, 155))].mean() > 5
    volumes = [read_mrc_volume(noisy / "gt" / f"state_0{n}.mrc")[0] for n in (0, 2)]
    change = np.abs(volumes[1] - volumes[0])
    grid = np.rint(first.positions_angstrom[numbers == 200] / PIXEL).astype(int) + BOX // 2
    still = change[grid[:, 2], grid[:, 1], grid[:, 0]]
    assert still.max() < 0.05 * change.max()


def test_record_says_what_moved(noisy: Path) -> None:
    record = json.loads((noisy / "simulation.json").read_text())
    assert record["settings"]["seed"] == 1
    assert "out" not in record["settings"]
    lid, nmp = record["segments"][0]["domains"]
    assert lid["residues"].startswith("A:11")
    assert 40 < lid["rotation_degrees"] < 60
    assert 35 < nmp["rotation_degrees"] < 55
    assert record["largest_chain_break"]["distance_angstrom"] < 7
    assert record["noise_std"] == pytest.approx(record["clean_std"] / np.sqrt(0.5))


def test_record_of_a_noise_free_stack_is_plain_json(clean: Path) -> None:
    text = (clean / "simulation.json").read_text()
    record = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert record["settings"]["snr"] == "inf"
    assert record["noise_std"] == 0


def test_one_model_gives_a_stack_without_motion(tmp_path: Path) -> None:
    folder = run(tmp_path / "set", models=adk_models()[:1])
    assert sorted(path.name for path in (folder / "gt").iterdir()) == ["state_00.mrc"]
    assert (np.load(folder / "truth.npz")["t"] == 0).all()


def test_defoci_come_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("defocus_u_angstrom,defocus_v_angstrom,defocus_angle_degree\n15000,14000,30\n")
    folder = run(tmp_path / "set", defocus_file=tmp_path / "d.csv")
    np.testing.assert_array_equal(np.load(folder / "truth.npz")["defocus"], [[15000, 14000, 30]] * 64)


def test_empty_folder_is_filled_and_a_full_one_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (run(tmp_path / "empty") / "particles.star").is_file()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("data")
    with pytest.raises(InputError, match="full: exists and is not an empty folder"):
        run(tmp_path / "full")
    assert contents(tmp_path / "full") == {"precious": b"data"}
    with pytest.raises(InputError, match="precious: exists and is not an empty folder"):
        run(tmp_path / "full" / "precious")


def test_missing_parents_are_made(tmp_path: Path) -> None:
    assert (run(tmp_path / "a" / "b") / "particles.mrcs").is_file()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"pixel_size_angstrom": 1.0}, r"adk_1ake_A\.cif: the molecule reaches .* use pixels of .* A or a box of"),
        ({"moving": "Q:1-5"}, "no such residues"),
        ({"chains": "Q"}, "has no chain Q"),
        ({"defocus_file": "nowhere.csv"}, r"nowhere\.csv: no such file"),
        ({"snr": 1e-9}, "more than float16 holds"),
    ],
)
def test_failure_leaves_nothing_behind(tmp_path: Path, change: dict, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        run(tmp_path / "set", **change)
    assert list(tmp_path.iterdir()) == []


def test_advice_on_the_box_is_good(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="box of") as caught:
        run(tmp_path / "set", pixel_size_angstrom=1.0)
    box = int(str(caught.value).split("a box of ")[1].split()[0])
    run(tmp_path / "set", pixel_size_angstrom=1.0, box=box, images=2)


def test_made_up_models_from_files_of_two_formats(tmp_path: Path) -> None:
    from cryoformer.simulate.structures import write_model

    start, end = made_up(40)
    write_model(tmp_path / "start.cif", start, start.positions_angstrom)
    write_model(tmp_path / "end.cif", end, end.positions_angstrom)
    folder = run(tmp_path / "set", models=[tmp_path / "start.cif", tmp_path / "end.cif"])
    (domain,) = json.loads((folder / "simulation.json").read_text())["segments"][0]["domains"]
    assert domain["rotation_degrees"] == pytest.approx(40, abs=2)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two motions and two compositions, without noise."""
    parts = [{"weight": 0.6}, {"weight": 0.4, "without": "A:117-163"}]
    changes = {"independent_domains": True, "compositions": parts, "states": 2, "motion": "discrete", "images": 24}
    return run(tmp_path_factory.mktemp("mixed") / "set", snr=float("inf"), **changes)


def test_images_show_their_own_coordinates_and_composition(mixed: Path) -> None:
    """The volumes of the states, projected by code that shares nothing with the projection of atoms."""
    particles = load_particles(mixed / "particles.star")
    images = particles.images(np.arange(24)).astype(np.float64)
    truth = np.load(mixed / "truth.npz")
    volumes = [torch.from_numpy(read_mrc_volume(path)[0]) for path in sorted((mixed / "gt").iterdir())]
    assert len(volumes) == 8
    transfer = contrast_transfer(particles.ctf, BOX, PIXEL)
    for index, state in enumerate(truth["state"]):
        rotation = torch.from_numpy(particles.rotations[index]).float()
        shift = torch.from_numpy(particles.shifts_angstrom[index]).float()
        errors = []
        for volume in volumes:
            projection = project_volume_reference(volume, rotation, shift, PIXEL)
            expected = fourier_to_images(images_to_fourier(projection) * transfer[index], BOX).double().numpy()
            errors.append(((images[index] - expected) ** 2).sum())
        # A motion along the line of sight changes little, but no other state fits clearly better.
        assert errors[state] < 1.05 * min(errors)
        # By its mass an image tells its composition whatever the view.
        sums = [float(volume.sum()) for volume in volumes]
        assert images[index].sum() == pytest.approx(0.1 * sums[state], rel=0.02)
    assert sums[4] < 0.85 * sums[0]


def test_truth_of_two_motions_and_two_compositions(mixed: Path) -> None:
    truth = np.load(mixed / "truth.npz")
    assert truth["coordinates"].shape == (24, 2)
    assert truth["state_coordinates"].shape == (8, 2)
    np.testing.assert_array_equal(truth["t"], truth["coordinates"][:, 0])
    np.testing.assert_array_equal(truth["state_composition"][truth["state"]], truth["composition"])
    np.testing.assert_array_equal(truth["state_coordinates"][truth["state"]], truth["coordinates"])
    np.testing.assert_array_equal(truth["composition_moves"], [[True, True], [False, True]])
    models = [read_models([path])[0] for path in sorted((mixed / "models").iterdir())]
    numbers = [{residue.number for residue in model.residues} for model in models]
    assert all(set(range(117, 164)) <= found for found in numbers[:4])
    assert not any(set(range(117, 164)) & found for found in numbers[4:])
    record = json.loads((mixed / "simulation.json").read_text())
    assert [each.split("-")[0] for each in record["coordinates"]] == ["A:117", "A:30"]
    whole, part = record["compositions"]
    assert (whole["without"], part["without"]) == (None, "A:117-163")
    assert (whole["atoms"], part["atoms"]) == (len(models[0].elements), len(models[4].elements))


def test_settings_that_are_not_used_leave_no_trace(noisy: Path) -> None:
    """A set of one motion and one composition is written as if there were no other kind."""
    record = json.loads((noisy / "simulation.json").read_text())
    assert not {"compositions", "independent_domains", "coordinates"} & (set(record["settings"]) | set(record))

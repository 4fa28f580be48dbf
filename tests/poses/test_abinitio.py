"""Poses from nothing: a small molecule is found, noise is called noise, and files come back with poses in them."""

import json
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
import torch
from scipy.spatial.transform import Rotation

from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.images.fourier_images import FourierImages
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.imaging.ctf import CTFParameters, contrast_transfer
from cryoformer.imaging.fourier import fourier_to_images, shift_phases
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.poses import abinitio
from cryoformer.poses.abinitio_run import find_poses
from cryoformer.poses.map_alignment import align_maps, self_alignments
from cryoformer.poses.refine import refine
from cryoformer.poses.stochastic_em import Marching
from cryoformer.progress import RunLog
from toy_images import PIXEL, white_images

POSES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst")
BOX = 32
READING = ImageSettings(invert="no", device="cpu")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One start, fewer images a step: enough for a dozen blobs."""
    monkeypatch.setattr(abinitio, "STARTS", 1)
    monkeypatch.setattr(abinitio, "LEAST_FILL", 1.0)  # bands are as they stand here
    monkeypatch.setattr(abinitio, "FIRST", Marching(first=5.0, last=6.0, steps=16, batch=(100, 200)))
    monkeypatch.setattr(abinitio, "SECOND", Marching(first=6.0, last=6.5, steps=16, batch=(150, 250)))
    monkeypatch.setattr(abinitio, "THIRD", Marching(first=6.5, last=7.5, steps=16, batch=(150, 250)))


def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not meant to find anything need not take long."""
    monkeypatch.setattr(abinitio, "FIRST", Marching(first=4.0, last=4.5, steps=4, batch=(50, 50)))
    monkeypatch.setattr(abinitio, "SECOND", Marching(first=4.5, last=4.5, steps=2, batch=(50, 50)))
    monkeypatch.setattr(abinitio, "THIRD", Marching(first=4.5, last=5.0, steps=4, batch=(50, 50)))


def without_poses(particles: Path, folder: Path) -> Path:
    """The file beside a copy of its images, without poses."""
    tables = starfile.read(particles, always_dict=True)
    tables["particles"] = tables["particles"].drop(columns=list(POSES))
    starfile.write(tables, folder / "bare.star")
    (folder / "particles.mrcs").write_bytes(particles.with_name("particles.mrcs").read_bytes())
    return folder / "bare.star"


def lopsided(count: int, noise: float) -> tuple[FourierImages, CTFParameters, np.ndarray]:
    """Still particles of a dozen blobs that no rotation, and no mirror, lays on themselves; shifted by some pixels."""
    generator = torch.Generator().manual_seed(4)
    points, density = grid_points(BOX, PIXEL), torch.zeros(BOX**3)
    for place in 22.0 * torch.randn(12, 3, generator=generator):
        density += torch.exp(-(points - place).square().sum(dim=1) / (2 * 7.0**2))
    rotations = torch.from_numpy(uniform_rotations(count, seed=0)).float()
    one, defocus = torch.ones(count), 8000 + 8000 * torch.rand(count, generator=generator)
    ctf = CTFParameters(defocus, defocus + 200, 30 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one)
    transfer = contrast_transfer(ctf, BOX, PIXEL)
    shifts = PIXEL * (3 * torch.rand(count, 2, generator=generator) - 1.5)
    clean = splat_project(density.expand(count, -1), points, rotations, None, BOX, PIXEL) * transfer
    noisy = clean * shift_phases(shifts, BOX, PIXEL) + torch.fft.rfft2(
        noise * torch.randn(count, BOX, BOX, generator=generator)
    )
    images = white_images(noisy, rotations, noise, transfer)
    return images, ctf, shifts.numpy()


def write(folder: Path, count: int = 500, noise: float = 0.6) -> Path:
    """As a RELION stack at the true poses."""
    images, ctf, shifts = lopsided(count, noise)
    with mrcfile.new(folder / "particles.mrcs") as file:
        file.set_data(fourier_to_images(images.coefficients, BOX).numpy())
        file.voxel_size = PIXEL
    write_particles_star(
        folder / "particles.star",
        image_names=[f"{i + 1:06d}@particles.mrcs" for i in range(count)],
        rotations=images.rotations.double().numpy(),
        shifts_angstrom=shifts.astype(np.float64),
        ctf=ctf,
        pixel_size_angstrom=PIXEL,
        box=BOX,
    )
    return folder / "particles.star"


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles that do not move, at their true poses, as a RELION stack."""
    return write(tmp_path_factory.mktemp("exact"))


def errors(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Degrees after the best global rotation, either hand."""
    mirror, best = np.diag([1.0, 1.0, -1.0]), None
    for rotations in (found, mirror @ found @ mirror):
        for turn in (np.swapaxes(rotations, 1, 2) @ known)[:100]:
            angles = np.degrees(Rotation.from_matrix(rotations @ turn @ np.swapaxes(known, 1, 2)).magnitude())
            if best is None or np.median(angles) < np.median(best):
                best = angles
    assert best is not None
    return best


def test_poses_from_nothing(exact: Path, tmp_path: Path) -> None:
    bare = without_poses(exact, tmp_path)
    said = find_poses(ParticleInput(bare), tmp_path / "out", READING)
    assert "poses from nothing" in said
    out = tmp_path / "out"
    found, known = load_particles(out / "particles.star"), load_particles(exact)
    assert np.median(errors(found.rotations, known.rotations)) < 6
    record = json.loads((out / "abinitio.json").read_text())
    assert record["structure"]["found"]
    assert record["finished"]
    assert sorted(path.name for path in out.iterdir()) == [
        "abinitio.json", "half_map_1.mrc", "half_map_2.mrc", "log.txt", "map.mrc", "particles.star", "poses.npz"
    ]  # fmt: skip
    with np.load(out / "poses.npz") as posteriors:
        np.testing.assert_allclose(posteriors["rotations"], found.rotations, atol=1e-4)
        assert posteriors["covariance"].shape == (500, 5, 5)
    # The file says everything that it said before.
    before, after = (starfile.read(path, always_dict=True)["particles"] for path in (bare, out / "particles.star"))
    assert list(after.columns) == [*before.columns, *POSES]
    for column in before.columns:
        if column != "rlnImageName":
            np.testing.assert_array_equal(before[column], after[column])

    # Again: nothing to do; the other hand at once.
    assert "nothing to do" in find_poses(ParticleInput(bare), out, READING)
    with mrcfile.open(out / "map.mrc") as mrc:
        volume = np.array(mrc.data)
    assert "other hand" in find_poses(ParticleInput(bare), out, READING, flip=True)
    mirror = np.diag([1.0, 1.0, -1.0])
    flipped = load_particles(out / "particles.star")
    np.testing.assert_allclose(flipped.rotations, mirror @ found.rotations @ mirror, atol=1e-4)
    with mrcfile.open(out / "map.mrc") as mrc:
        np.testing.assert_allclose(mrc.data[1:], volume[:0:-1], atol=1e-6)


@pytest.mark.parametrize("search", ["cone", pytest.param("global", marks=pytest.mark.slow)])
def test_a_search_keeps_the_frame_and_the_hand_of_poses_that_are_far_off(
    search: str, exact: Path, tmp_path: Path
) -> None:
    known, generator = load_particles(exact), np.random.default_rng(3)
    axes = generator.normal(size=(len(known), 3))
    angles = np.radians(generator.uniform(45, 90, size=(len(known), 1)))
    turns = Rotation.from_rotvec(angles * axes / np.linalg.norm(axes, axis=1, keepdims=True)).as_matrix()
    (tmp_path / "far").mkdir()
    ParticleInput(exact).open().write_posed(replace(known, rotations=turns @ known.rotations), tmp_path / "far")
    said = refine(ParticleInput(tmp_path / "far" / "particles.star"), tmp_path / "out", READING, search=search)
    assert "degrees from those given" in said
    record = json.loads((tmp_path / "out" / "refinement.json").read_text())
    assert record["poses_changed"]
    # Halves of 500 errors of 67 degrees.
    assert 0 < record["frame_degrees"] < 40
    found = load_particles(tmp_path / "out" / "particles.star")
    left = np.degrees(Rotation.from_matrix(found.rotations @ np.swapaxes(known.rotations, 1, 2)).magnitude())
    # What is left is the error of the frame, which 500 errors of 67 degrees leave uncertain by some degrees.
    assert np.median(left) < 12
    with np.load(tmp_path / "out" / "poses.npz") as read:
        assert 45 < np.degrees(np.median(np.linalg.norm(read["turn_radians"], axis=1))) < 90


def test_a_stopped_search_goes_on_to_the_same_end(exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_steps(monkeypatch)
    bare, run, calls = without_poses(exact, tmp_path), abinitio.stochastic_map, []

    def stop_in_the_second(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(*arguments, **named)  # type: ignore[arg-type]

    # The search for poses and their refinement are as long as everything else.
    monkeypatch.setattr(abinitio.AbInitio, "_find_poses", lambda self: self.findings.add(rotations=torch.zeros(1)))
    maps = []
    for name, stopping in (("one", False), ("other", True)):
        findings = abinitio.Findings.at(tmp_path / name / "abinitio.safetensors")
        particles = ParticleInput(bare).open().read(require_poses=False)
        images = prepare_images(particles, tmp_path / name / "cache", READING)
        if stopping:
            monkeypatch.setattr(abinitio, "stochastic_map", stop_in_the_second)
            with pytest.raises(KeyboardInterrupt), RunLog(None) as log:
                abinitio.AbInitio(images, findings, 0, log).run()
            findings = abinitio.Findings.at(findings.path)
            assert sorted(findings.arrays) == ["noise_start_0", "start_0"]
            assert not findings.complete
        with RunLog(None) as log:
            abinitio.AbInitio(images, findings, 0, log).run()
        # Of blobs in so few steps starts may agree or not.
        assert findings.complete
        maps.append(findings.arrays["map"])
    torch.testing.assert_close(*maps)


def test_noise_has_no_structure(exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_steps(monkeypatch)
    bare = without_poses(exact, tmp_path)
    with mrcfile.open(tmp_path / "particles.mrcs", mode="r+") as mrc:
        mrc.set_data(np.random.default_rng(0).normal(size=mrc.data.shape).astype(np.float32))
    said = find_poses(ParticleInput(bare), tmp_path / "out", READING)
    assert "no structure" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["abinitio.json", "log.txt"]
    assert "no structure" in find_poses(ParticleInput(bare), tmp_path / "out", READING)


def test_agreement_of_maps_is_that_of_what_is_not_round() -> None:
    points = grid_points(BOX, 1.0)

    def molecule(turn: np.ndarray, seed: int) -> torch.Tensor:
        places = 3.5 * torch.randn(12, 3, generator=torch.Generator().manual_seed(seed))
        where = (points @ torch.from_numpy(turn).float() - places[:, None]).square().sum(dim=2)
        # A large ball, on which a dozen blobs are little.
        ball = 3 * torch.exp(-points.square().sum(dim=1) / (2 * 5.0**2))
        return (torch.exp(-where / (2 * 1.5**2)).sum(dim=0) + ball).reshape(BOX, BOX, BOX)

    turn = Rotation.random(random_state=2).as_matrix()
    one, same, other = molecule(np.eye(3), 1), molecule(turn, 1), molecule(turn, 2)
    with RunLog(None) as log:
        search = abinitio.AbInitio(lopsided(200, 0.6)[0], abinitio.Findings(Path("unused")), 0, log)
    assert search._agreement(one, same) > 0.95
    assert search._agreement(one, other) < abinitio.AGREE
    assert align_maps(one, other).correlation > abinitio.AGREE  # which would not tell them apart


@pytest.mark.parametrize(("agreement", "alike", "why"), [(0.6, 2, "0.60"), (0.99, 11, "--symmetry")])
def test_maps_that_show_no_poses_are_no_structure(
    agreement: float, alike: int, why: str, exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disagree(self: abinitio.AbInitio) -> None:
        structure = {"found": True, "gain": 9.0, "error": 0.1, "band": 6.0}
        facts = {"structure": structure, "agreement_of_starts": [agreement], "said": "structure"}
        self.findings.add(facts | {"views_alike": alike * [0.99]})

    monkeypatch.setattr(abinitio.AbInitio, "_find_map", disagree)
    bare = without_poses(exact, tmp_path)
    for _ in range(2):
        said = find_poses(ParticleInput(bare), tmp_path / "out", READING)
        assert "no structure shown" in said
        assert why in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["abinitio.json", "log.txt"]


def test_a_disc_lies_on_itself_in_many_views() -> None:
    points = grid_points(BOX, 1.0)
    disc = torch.exp(-(points / torch.tensor([7.0, 7.0, 3.0])).square().sum(dim=1)).reshape(BOX, BOX, BOX)
    alike = self_alignments(disc, abinitio.ALIKE, abinitio.MOST_ALIKE, np.eye(3)[None])
    findings = abinitio.Findings(Path("unused"), facts={"views_alike": [each.correlation for each in alike]})
    assert findings.turns_on_itself


def test_few_images_and_other_folders_are_refused(exact: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="choose another"):
        find_poses(ParticleInput(exact), tmp_path, READING)
    few = write(tmp_path, count=20)
    with pytest.raises(InputError, match="too few"):
        find_poses(ParticleInput(few), tmp_path / "out", READING)
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["abinitio", str(tmp_path / "none.star"), "--out", str(tmp_path / "out")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

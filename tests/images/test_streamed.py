"""Images read as they are used are those that would lie in memory; optics groups keep their own optics."""

from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
import torch

from cryoformer.formats import load_particles
from cryoformer.images import preparation
from cryoformer.images.fourier_images import FourierImages, Images, SliceProjector
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import StreamedImages, prepare_images
from cryoformer.imaging.ctf import CTFParameters, contrast_transfer
from cryoformer.imaging.fourier import fourier_to_images
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.rotations import euler_from_matrix, uniform_rotations
from cryoformer.imaging.slices import SlicePlane

SIGMA = 9.0
MOLECULE = torch.tensor([[30.0, 10.0, -20.0], [-25.0, 5.0, 10.0], [0.0, -35.0, 15.0], [10.0, 25.0, 30.0]])


def both(particle_file: Path, tmp_path: Path, box: int | None = None) -> tuple[FourierImages, StreamedImages]:
    particles = load_particles(particle_file)
    held = prepare_images(particles, tmp_path / "a", ImageSettings(memory_gib=1.0, invert="no"))
    streamed = prepare_images(particles, tmp_path / "b", ImageSettings(memory_gib=0.0, invert="no"))
    if box is not None:
        held, streamed = held.crop(box), streamed.crop(box)
    assert isinstance(held, FourierImages)
    assert isinstance(streamed, StreamedImages)
    return held, streamed


def test_streamed_images_are_those_in_memory(particle_file: Path, tmp_path: Path) -> None:
    held, streamed = both(particle_file, tmp_path)
    rows = torch.tensor([250, 3, 17, 299])
    assert torch.equal(streamed.take(rows).coefficients, held.coefficients[rows])
    assert torch.equal(streamed.take(rows).ctf, held.ctf[rows])


def test_coarse_images_come_from_a_cache_within_half_precision(particle_file: Path, tmp_path: Path) -> None:
    held, streamed = both(particle_file, tmp_path, box=16)
    rows = torch.tensor([250, 3, 17, 299])
    assert streamed.cached is not None
    assert streamed.pixel_size_angstrom == held.pixel_size_angstrom
    difference = streamed.take(rows).coefficients - held.coefficients[rows]
    assert float(difference.abs().max()) < 2e-3 * float(held.coefficients[rows].abs().max())
    # A crop has zeros at the Nyquist frequency.
    inside = SlicePlane.of_box(16)
    assert torch.allclose(inside.take(streamed.take(rows).ctf), inside.take(held.ctf[rows]), atol=1e-5)


def test_residuals_agree(particle_file: Path, tmp_path: Path) -> None:
    held, streamed = both(particle_file, tmp_path)
    volume = torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(20, 40)
    expected = held.minus(volume).take(rows).coefficients
    assert torch.allclose(streamed.minus(volume).take(rows).coefficients, expected, atol=1e-3)
    assert not torch.allclose(held.coefficients[rows], expected, atol=1e-3)


def test_many_images_are_taken_by_batches(particle_file: Path, tmp_path: Path) -> None:
    held, streamed = both(particle_file, tmp_path)
    rows = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:280]
    assert len(rows) > streamed.batch
    assert torch.equal(streamed.take(rows).coefficients, held.coefficients[rows])
    assert torch.equal(streamed.take(rows).ctf, held.ctf[rows])
    assert torch.equal(streamed.take(rows).views(), held.views(rows))


def test_batches_come_in_order_and_a_reader_may_stop_early(particle_file: Path, tmp_path: Path) -> None:
    held, streamed = both(particle_file, tmp_path)
    batches = streamed.batches(torch.arange(300).flip(0).split(7))
    for expected, (rows, images) in zip(torch.arange(300).flip(0).split(7), batches, strict=False):
        assert torch.equal(rows, expected)
        assert torch.equal(images.coefficients, held.coefficients[rows])
        if int(rows[-1]) < 200:
            break
    batches.close()


def test_half_sets_of_the_file_are_kept(particle_file: Path, tmp_path: Path) -> None:
    tables = starfile.read(particle_file)
    tables["particles"]["rlnRandomSubset"] = np.where(np.arange(300) < 100, 1, 2)
    starfile.write(tables, particle_file.parent / "halves.star")
    images, _ = both(particle_file.parent / "halves.star", tmp_path)
    assert images.halves.tolist() == [0] * 100 + [1] * 200
    other, _ = both(particle_file, tmp_path)
    assert other.halves.sum() == 150


def write_groups(
    folder: Path, groups: list[tuple[int, float]], premultiplied: bool = False, noise: float = 0.0
) -> Path:
    """A molecule of four Gaussians, 60 images a group of (box, pixel size), with one RELION optics group each."""
    rng = np.random.default_rng(1)
    rows, optics = [], []
    for number, (box, pixel) in enumerate(groups, start=1):
        rotations = uniform_rotations(60, seed=number)
        shifts = rng.uniform(-8, 8, (60, 2))
        one = torch.ones(60)
        defocus = torch.tensor(rng.uniform(9000, 15000, 60), dtype=torch.float32)
        ctf = CTFParameters(defocus, defocus, 0 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one)
        transfer = contrast_transfer(ctf, box, pixel)
        clean = splat_project(
            torch.full((60, 4), 1000.0),
            MOLECULE,
            torch.tensor(rotations, dtype=torch.float32),
            torch.tensor(shifts, dtype=torch.float32),
            box,
            pixel,
        )
        k = torch.fft.fftfreq(box, pixel)[:, None] ** 2 + torch.fft.rfftfreq(box, pixel)[None] ** 2
        # The noise of a pixel grows with its side, the signal with its area.
        half_planes = clean * torch.exp(-2 * (np.pi * SIGMA) ** 2 * k) * transfer
        seen = fourier_to_images(half_planes, box) + pixel * (noise + 1e-3) * torch.tensor(
            rng.standard_normal((60, box, box)), dtype=torch.float32
        )
        if premultiplied:
            seen = torch.fft.irfft2(torch.fft.rfft2(seen) * transfer, s=(box, box))
        name = f"group{number}.mrcs"
        with mrcfile.new(folder / name, overwrite=True) as file:
            file.set_data(seen.numpy().astype(np.float32))
        rot, tilt, psi = euler_from_matrix(rotations).T
        optics.append(
            {
                "rlnOpticsGroup": number,
                "rlnVoltage": 300.0,
                "rlnSphericalAberration": 2.7,
                "rlnAmplitudeContrast": 0.1,
                "rlnImagePixelSize": pixel,
                "rlnImageSize": box,
                "rlnCtfDataAreCtfPremultiplied": int(premultiplied),
            }
        )
        rows.append(
            pd.DataFrame(
                {
                    "rlnImageName": [f"{i + 1}@{name}" for i in range(60)],
                    "rlnOpticsGroup": number,
                    "rlnAngleRot": rot,
                    "rlnAngleTilt": tilt,
                    "rlnAnglePsi": psi,
                    "rlnOriginXAngst": -shifts[:, 0],
                    "rlnOriginYAngst": -shifts[:, 1],
                    "rlnDefocusU": defocus.numpy(),
                    "rlnDefocusV": defocus.numpy(),
                    "rlnDefocusAngle": 0.0,
                }
            )
        )
    tables = {"optics": pd.DataFrame(optics), "particles": pd.concat(rows)}
    starfile.write(tables, folder / "particles.star", overwrite=True)
    return folder / "particles.star"


def fit(images: Images, rows: torch.Tensor) -> tuple[float, float]:
    """Correlation of some images with projections of the true molecule, and the factor between them."""
    distances = torch.cdist(grid_points(images.box, images.pixel_size_angstrom), MOLECULE)
    volume = torch.exp(-distances.square() / (2 * SIGMA**2)).sum(dim=1).reshape((images.box,) * 3)
    some = images.take(rows)
    expected, found = SliceProjector(volume).project(some.views()) * some.ctf, some.coefficients
    cross, power = (expected.conj() * found).real.sum(), expected.abs().square().sum()
    return float(cross / (power * found.abs().square().sum()).sqrt()), float(cross / power)


@pytest.mark.parametrize("groups", [[(32, 5.0), (40, 4.0)], [(32, 5.0), (32, 4.0)], [(32, 5.0), (36, 4.0), (33, 6.0)]])
def test_groups_of_other_pixel_size_and_box_show_one_molecule(
    tmp_path: Path, groups: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There is no noise to normalise by, only the rims of the molecule.
    monkeypatch.setattr(preparation, "normalise_background", lambda images: (images, 0.0, 1.0))
    particles = load_particles(write_groups(tmp_path, groups))
    images = prepare_images(particles, tmp_path / "cache", ImageSettings(invert="no"))
    assert images.box == 32
    # Were row 0's pixel size taken for all, the molecule of another group would be a quarter larger: about 0.7.
    assert min(fit(images, rows)[0] for rows in torch.arange(len(images)).split(60)) > 0.99


def test_strength_of_groups_agrees(tmp_path: Path) -> None:
    """Same dose per area: the second group's pixels are 4/5 as wide, so each has 4/5 of the noise."""
    particles = load_particles(write_groups(tmp_path, [(32, 5.0), (32, 4.0)], noise=1.0))
    images = prepare_images(particles, tmp_path / "cache", ImageSettings(invert="no"))
    first, second = (fit(images, rows)[1] for rows in torch.arange(120).split(60))
    assert second / first == pytest.approx(1.0, abs=0.05)


def test_premultiplied_images_are_those_before_the_multiplication(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir(), (tmp_path / "times").mkdir()
    groups = [(32, 5.0)]
    plain = prepare_images(
        load_particles(write_groups(tmp_path / "plain", groups, noise=5.0)), tmp_path / "c", ImageSettings()
    )
    times = prepare_images(
        load_particles(write_groups(tmp_path / "times", groups, True, noise=5.0)), tmp_path / "d", ImageSettings()
    )
    one, two = plain.take(torch.arange(60)), times.take(torch.arange(60))
    known = two.ctf != 0
    assert float(known.float().mean()) > 0.9
    assert torch.equal(one.ctf[known], two.ctf[known])
    a, b = one.coefficients[known], two.coefficients[known]
    assert float((a * b.conj()).real.sum() / (a.abs().square().sum() * b.abs().square().sum()).sqrt()) > 0.99
    assert float(b.abs().square().mean() / a.abs().square().mean()) == pytest.approx(1.0, abs=0.1)


def test_flipped_phases_are_flipped_back_and_the_user_decides(particle_file: Path, tmp_path: Path) -> None:
    particles = load_particles(particle_file)
    plain = prepare_images(particles, tmp_path / "a", ImageSettings(invert="no", normalise=False))
    flipped = prepare_images(
        particles, tmp_path / "b", ImageSettings(invert="no", normalise=False, ctf_applied="phases")
    )
    turned = plain.take(torch.arange(9)), flipped.take(torch.arange(9))
    assert torch.equal(turned[1].ctf, turned[0].ctf)
    assert torch.equal(turned[1].coefficients, turned[0].coefficients * torch.where(turned[0].ctf < 0, -1.0, 1.0))
    times = prepare_images(particles, tmp_path / "c", ImageSettings(invert="no", ctf_applied="multiplied")).take(
        torch.arange(9)
    )
    assert (times.ctf == 0).any()


def test_what_the_images_are_taken_for_is_said(particle_file: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO", logger="cryoformer")
    prepare_images(load_particles(particle_file), tmp_path / "a", ImageSettings())
    said = "\n".join(caplog.messages)
    for words in ("--invert", "--normalise", "--ctf-applied", "standard deviation"):
        assert words in said


def test_contrast_is_a_factor_of_the_ctf_wherever_images_are(particle_file: Path, tmp_path: Path) -> None:
    particles = load_particles(particle_file)
    contrast = torch.linspace(0.5, 1.5, len(particles))
    held = prepare_images(particles, tmp_path / "a", ImageSettings(invert="no"))
    streamed = prepare_images(particles, tmp_path / "b", ImageSettings(invert="no", memory_gib=0.0))
    rows = torch.tensor([3, 299, 17])
    for images in (held, streamed, held.crop(16), streamed.crop(16)):
        weak, plain = images.with_contrast(contrast).take(rows), images.take(rows)
        torch.testing.assert_close(weak.ctf, plain.ctf * contrast[rows, None, None])
        torch.testing.assert_close(weak.coefficients, plain.coefficients)
        twice = images.with_contrast(contrast).with_contrast(1 / contrast).take(rows)
        torch.testing.assert_close(twice.ctf, plain.ctf)
    # Whichever comes first.
    weak, plain = streamed.with_contrast(contrast).crop(16).take(rows), streamed.crop(16).take(rows)
    torch.testing.assert_close(weak.ctf, plain.ctf * contrast[rows, None, None])

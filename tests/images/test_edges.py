"""Images whose edges jump end softly, those without are left as they are, and noise is known where the particle is."""

from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryoformer.formats import load_particles
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.imaging.edges import OUTWEIGHED, edge_jumps, power_kept, soft_edges
from cryoformer.imaging.fourier import fourier_to_images, images_to_fourier, radii
from cryoformer.linear.consensus import residual_noise_power
from cryoformer.run.run_folder import RunPaths

BOX = 24


def noise(steepness: float, count: int, seed: int = 0) -> torch.Tensor:
    """Images cut from larger ones, whose power falls by exp(-2 steepness) up to Nyquist."""
    large = torch.randn(count, 2 * BOX, 2 * BOX, generator=torch.Generator().manual_seed(seed))
    factor = torch.exp(-steepness * (radii(2 * BOX) / BOX).square())
    return fourier_to_images(images_to_fourier(large) * factor, 2 * BOX)[:, :BOX, :BOX]


@pytest.fixture
def smoothed_file(particle_file: Path, tmp_path: Path) -> Path:
    """The toy's particles with images of smooth noise."""
    folder = tmp_path / "smooth"
    folder.mkdir()
    (folder / "particles.star").write_text(particle_file.read_text())
    with mrcfile.new(folder / "particles.mrcs") as file:
        file.set_data(noise(6.0, 300).numpy())
        file.set_image_stack()
    return folder / "particles.star"


def test_jumps_are_found_where_they_outweigh_the_noise() -> None:
    assert edge_jumps(noise(0.0, 300))[0] < 1.3
    ratio, shell = edge_jumps(noise(6.0, 300))
    assert ratio > 3 * OUTWEIGHED
    assert shell > BOX // 5
    # Few images, and a particle in the middle, are no jumps.
    x = (torch.arange(BOX) - BOX // 2).float()
    disc = 5 * (torch.hypot(*torch.meshgrid(x, x, indexing="ij")) < 5).float()
    assert edge_jumps(noise(0.0, 4) + disc)[0] < OUTWEIGHED


def test_a_particle_in_the_middle_stays_as_it_is() -> None:
    window = soft_edges(64)
    assert (window[16:49, 16:49] == 1).all()
    assert window[0].max() == 0
    torch.testing.assert_close(window[1:, 1:], window[1:, 1:].flip(0, 1))
    assert power_kept(64) == pytest.approx((1 - 2 * 0.12 * 5 / 8) ** 2, abs=0.02)


def test_images_end_softly_where_they_ask_for_it(particle_file: Path, smoothed_file: Path, tmp_path: Path) -> None:
    rows, kept = torch.arange(20), {}
    for name, file in (("white", particle_file), ("smooth", smoothed_file)):
        particles = load_particles(file)
        particles = replace(particles, shifts_angstrom=np.zeros_like(particles.shifts_angstrom))
        read = {
            asked: prepare_images(particles, tmp_path / name / asked, ImageSettings(invert="no", soft_edges=asked))
            for asked in ("auto", "yes", "no")
        }
        kept[name] = read["auto"].noise_kept
        soft, whole = (fourier_to_images(read[asked].take(rows).coefficients, BOX) for asked in ("yes", "no"))
        torch.testing.assert_close(soft, whole * soft_edges(BOX), atol=1e-4, rtol=1e-3)
        asked = "yes" if name == "smooth" else "no"
        assert torch.equal(read["auto"].take(rows).coefficients, read[asked].take(rows).coefficients)
    assert kept == {"white": 1.0, "smooth": power_kept(BOX)}


def test_noise_is_that_where_the_particle_is(particle_file: Path, tmp_path: Path) -> None:
    particles = load_particles(particle_file)
    found = [
        residual_noise_power(
            prepare_images(particles, tmp_path / asked, ImageSettings(invert="no", soft_edges=asked)),
            torch.zeros(BOX, BOX, BOX),
        )
        for asked in ("yes", "no")
    ]
    # Beyond what the particle shows, both are the white noise of the toy.
    torch.testing.assert_close(found[0][6:-1], found[1][6:-1], rtol=0.05, atol=0.0)


def test_runs_from_before_keep_their_edges(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("settings:\n  invert: auto\n")
    assert RunPaths(tmp_path).read_config()["settings"]["soft_edges"] == "no"
    assert ImageSettings.from_facts({"invert": "no"}).soft_edges == "no"
    assert ImageSettings.from_facts({"soft_edges": "auto"}).soft_edges == "auto"

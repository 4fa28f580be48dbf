"""The noise from what lies around particles, whatever its colour; and how much of it is the noise's own."""

import torch

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.edges import power_kept, soft_edges
from cryoformer.imaging.fourier import fourier_to_images, images_to_fourier, radii
from cryoformer.poses.background import background_power, particle_radius
from cryoformer.poses.matching import BandImages
from cryoformer.poses.stochastic_em import MOST_NOISE, NoiseShare

BOX, COUNT = 32, 400


def images_of(pixels: torch.Tensor, soft: bool = False) -> FourierImages:
    if soft:
        pixels = pixels * soft_edges(BOX)
    count = len(pixels)
    return FourierImages(
        rotations=torch.eye(3).expand(count, 3, 3),
        scale=torch.ones(count),
        halves=torch.arange(count) % 2,
        noise_power=torch.full((BOX // 2 + 1,), float(BOX**2)),
        pixel_size_angstrom=5.0,
        voxel_angstrom=5.0,
        coefficients=images_to_fourier(pixels),
        ctf=torch.ones(count, BOX, BOX // 2 + 1),
        noise_kept=power_kept(BOX) if soft else 1.0,
    )


def smoothed_noise() -> tuple[torch.Tensor, torch.Tensor]:
    """Images cut from larger ones, which do not go on periodically, and their spectrum: it falls a millionfold."""
    large = torch.randn(COUNT, 2 * BOX, 2 * BOX, generator=torch.Generator().manual_seed(1))
    factor = torch.exp(-7.0 * (radii(2 * BOX) / BOX).square())
    smooth = fourier_to_images(images_to_fourier(large) * factor, 2 * BOX)
    inner = slice(BOX // 2, 3 * BOX // 2)
    return smooth[:, inner, inner], BOX**2 * torch.exp(-14.0 * (torch.arange(BOX // 2 + 1) / (BOX / 2)).square())


def test_the_spectrum_of_smooth_noise_is_not_that_of_the_images_edges() -> None:
    pixels, expected = smoothed_noise()
    edges = images_to_fourier(pixels)[:, 0, 12].abs().square().mean()
    assert edges > 8 * expected[12]  # what a spectrum of whole images would be there
    for soft in (False, True):
        ratio = (background_power(images_of(pixels, soft)) / expected)[2:13]
        assert ratio.min() > 0.5
        assert ratio.max() < 3


def test_soft_edges_hide_no_noise() -> None:
    pixels = torch.randn(COUNT, BOX, BOX, generator=torch.Generator().manual_seed(3))
    found = background_power(images_of(pixels, soft=True))[2:-1] / BOX**2
    assert float((found - 1).abs().max()) < 0.03


def test_a_particle_is_measured() -> None:
    x = (torch.arange(BOX) - BOX // 2).float()
    radius = torch.hypot(*torch.meshgrid(x, x, indexing="ij"))
    disc = (radius < 6).float() - 0.05
    found = particle_radius(images_of(disc.expand(4, -1, -1)))
    assert abs(found - 6 / BOX) < 1 / BOX


def test_noise_that_the_background_exaggerates_is_found_to_be_less() -> None:
    pixels = torch.randn(COUNT, BOX, BOX, generator=torch.Generator().manual_seed(2)) * 0.7**0.5
    band = BandImages.of(images_of(pixels, soft=True)).band(8.0)
    noise = NoiseShare(BOX, power_kept(BOX))
    for _ in range(40):
        batch = band.with_less_noise(noise.of(band))
        noise.update(batch, torch.zeros_like(batch.power), 0.2)
    assert (noise.share[2:9] - 0.7).abs().max() < 0.07
    assert (noise.share[9:] == 1).all()
    # What a map explains is not noise; the background's remains a bound.
    explained = torch.full_like(band.power, 0.1)
    noise.update(band.with_less_noise(noise.of(band)), explained, 1.0)
    assert noise.share[2:9].max() < 0.7
    noise.update(band.with_less_noise(noise.of(band)), torch.full_like(band.power, -9.0), 1.0)
    assert noise.share.max() == MOST_NOISE

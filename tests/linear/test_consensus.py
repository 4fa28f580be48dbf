"""Back-projection: right density, right noise, and nothing left when the density is taken off."""

from dataclasses import replace

import torch

from cryoformer.images.fourier_images import checkerboard
from cryoformer.imaging.fourier import radii
from cryoformer.imaging.grids import grid_points, shell_mean, voxel_radii
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.slices import fourier_from_volume
from cryoformer.linear.consensus import (
    PARTICLE_RADIUS,
    reconstruct_consensus,
    residual_noise_power,
    wiener_backprojection,
)
from cryoformer.linear.local_filter import local_wiener
from toy_images import BOX, PIXEL, blob


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.reshape(-1), b.reshape(-1)]))[0, 1])


def test_consensus_is_the_mean_density_on_its_own_scale(moving) -> None:
    truth = torch.stack([moving.density(t) for t in moving.t.tolist()]).mean(dim=0)
    consensus = reconstruct_consensus(moving.images)
    assert correlation(consensus.volume, truth) > 0.98
    scale = float((consensus.volume * truth).sum() / truth.square().sum())
    assert abs(scale - 1) < 0.05  # the Wiener filter shrinks a little
    assert float(consensus.half_map_fsc[1:4].min()) > 0.9


def test_noise_spectrum_is_found_whatever_is_assumed_at_first(moving) -> None:
    wrong = moving.images.with_noise(torch.ones_like(moving.images.noise_power))
    found = reconstruct_consensus(wrong).noise_power
    # Beyond the shells that hold heterogeneity, white noise of variance 0.7^2 per pixel. 600 images average it well.
    expected = moving.images.noise_power
    assert torch.allclose(found[5:12], expected[5:12], rtol=0.1)


def test_true_density_leaves_noise_only(moving) -> None:
    residual = moving.images.minus(moving.density(0.5)).coefficients
    before, after = moving.images.coefficients[:, 1, 0].abs().mean(), residual[:, 1, 0].abs().mean()
    assert float(after) < 0.6 * float(before)


def test_what_is_subtracted_is_not_reconstructed(moving) -> None:
    nothing = wiener_backprojection(moving.images, lambda rows, images: images.coefficients)
    assert float(nothing.volume.abs().max()) == 0.0
    assert float(nothing.half_map_fsc.abs().max()) == 0.0


def test_local_filter_takes_noise_off_the_solvent_and_keeps_the_density(moving) -> None:
    truth = torch.stack([moving.density(t) for t in moving.t.tolist()]).mean(dim=0)
    found = wiener_backprojection(moving.images)
    local = found.local(PIXEL)
    solvent = truth < 1e-3 * truth.max()
    assert float(local[solvent].std()) < 0.7 * float(((found.halves[0] + found.halves[1]) / 2)[solvent].std())
    assert correlation(local, truth) > 0.98


def test_bands_of_the_local_filter_add_up() -> None:
    """Two equal halves agree everywhere: nothing may be taken off."""
    volume = blob((10.0, 0.0, -20.0), 10.0)
    assert torch.allclose(local_wiener(volume, volume, PIXEL), volume, atol=1e-4)


def ball(radius: float) -> torch.Tensor:
    return voxel_radii(BOX) < radius


def test_wiener_filtered_density_is_neither_too_weak_nor_too_strong(moving) -> None:
    """What a Wiener filter leaves is what to expect of the truth: its regression on the density has a slope of one.

    For a molecule with density of all frequencies, in noise that leaves halves that correlate by 0.4 to 0.7.
    """
    truth = torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(0)) * ball(9)
    images, noise = moving.images.take(torch.arange(300)), 7.0
    density = truth.reshape(1, -1).expand(300, -1)
    clean = splat_project(density, grid_points(BOX, PIXEL), images.rotations, None, BOX, PIXEL) * images.ctf
    noisy = clean + torch.fft.rfft2(noise * torch.randn(300, BOX, BOX, generator=torch.Generator().manual_seed(1)))
    power = torch.full((BOX // 2 + 1,), noise**2 * BOX**2)
    found = wiener_backprojection(replace(images, coefficients=noisy, noise_power=power))
    # The filter is made for where particles are; what lies outside is noise alone.
    filtered = fourier_from_volume(found.volume * ball(PARTICLE_RADIUS * BOX / 2))
    products = torch.stack([(filtered * fourier_from_volume(truth).conj()).real, filtered.abs().square()])
    match, own = shell_mean(products, BOX)[:, 2:10].sum(dim=1)
    assert 0.3 < float(found.half_map_fsc[2:10].mean()) < 0.8
    assert abs(float(match / own) - 1) < 0.08


def test_local_filter_is_neither_too_weak_nor_too_strong() -> None:
    """The same from place to place, for halves of as much signal as noise."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(BOX, BOX, BOX, generator=generator)
    halves = truth + torch.randn(2, BOX, BOX, BOX, generator=generator)
    filtered = fourier_from_volume(local_wiener(halves[0], halves[1], PIXEL))
    products = torch.stack([(filtered * fourier_from_volume(truth).conj()).real, filtered.abs().square()])
    match, own = shell_mean(products, BOX)[:, 4:].sum(dim=1)
    assert abs(float(match / own) - 1) < 0.08


def test_coefficients_without_ctf_say_nothing_of_the_noise(moving) -> None:
    """Every second coefficient is empty, as where images were multiplied by a CTF that is zero there."""
    nothing = torch.zeros_like(moving.still)
    whole = residual_noise_power(moving.images, nothing)
    for half in checkerboard(moving.images):
        torch.testing.assert_close(residual_noise_power(half, nothing)[2:], whole[2:], rtol=0.25, atol=0)


def test_shells_without_any_ctf_are_taken_for_white_noise(moving) -> None:
    """Nothing is known there; 1 per pixel is what normalisation makes of it."""
    seen = radii(BOX) < 6
    images = replace(moving.images, ctf=moving.images.ctf * seen, coefficients=moving.images.coefficients * seen)
    found = residual_noise_power(images, torch.zeros_like(moving.still))
    assert found[7:].tolist() == [float(BOX**2)] * (BOX // 2 - 6)
    assert bool((found[:6] != BOX**2).all())

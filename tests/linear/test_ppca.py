"""The linear subspace: it finds the motion, tells how sure it is, and finds none where there is none."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from cryoformer.communication import ALONE
from cryoformer.images.fourier_images import SliceProjector
from cryoformer.imaging.fourier import fourier_to_images, images_to_fourier
from cryoformer.imaging.slices import SlicePlane, extract_slices, fourier_from_volume, interpolate_slices
from cryoformer.linear.consensus import reconstruct_consensus
from cryoformer.linear.occupancy import flexible_region, occupancy_mask
from cryoformer.linear.ppca import LEAST_STEPS, PPCA, canonical, expectation, fit_ppca, maximisation
from toy_images import BOX, PIXEL, blob, moving_centre, simulate


@pytest.fixture(scope="module")
def fitted(moving) -> PPCA:
    mean = reconstruct_consensus(moving.images).volume
    return fit_ppca(moving.images, mean, occupancy_mask(mean, PIXEL), 3, 8, seed=0)


def test_latents_follow_the_motion(moving, fitted) -> None:
    assert abs(spearmanr(fitted.latents[:, 0].numpy(), moving.t).statistic) > 0.9


def test_motion_narrows_its_latent(fitted) -> None:
    assert float(fitted.covariance[:, 0, 0].mean()) < 0.15


def test_first_component_is_the_derivative_of_the_motion(moving, fitted) -> None:
    step = (moving.density(0.9) - moving.density(0.1)).reshape(-1)
    cosine = torch.cosine_similarity(fitted.basis[0].reshape(-1), step, dim=0)
    assert abs(float(cosine)) > 0.8


def test_log_likelihood_rises(moving) -> None:
    mean = reconstruct_consensus(moving.images).volume
    seen: list[float] = []
    fit_ppca(moving.images, mean, torch.ones_like(mean), 2, 5, 0, lambda _, state: seen.append(state.log_likelihood))
    assert all(later > earlier for earlier, later in pairwise(seen))


def steps_made(moving, iterations: int, tolerance: float) -> int:
    mean = moving.density(0.5)
    seen: list[int] = []
    images, mask = moving.images.take(torch.arange(100)), torch.ones_like(mean)
    fit_ppca(images, mean, mask, 1, iterations, 0, lambda step, _: seen.append(step), tolerance)
    return len(seen)


def test_em_ends_when_it_gains_little_but_not_before_it_has_begun(moving) -> None:
    assert steps_made(moving, 14, tolerance=1e9) == LEAST_STEPS
    assert steps_made(moving, 4, tolerance=1e9) == 4


def test_em_goes_on_from_components_that_are_known(moving, fitted) -> None:
    mean = reconstruct_consensus(moving.images).volume
    seen: list[float] = []
    found = fit_ppca(
        moving.images, mean, occupancy_mask(mean, PIXEL), 3, 40, 0, lambda _, state: seen.append(state.log_likelihood),
        tolerance=0.02, start=fitted.basis[:1],
    )  # fmt: skip
    assert len(seen) < LEAST_STEPS
    assert seen[0] > 0.5 * fitted.log_likelihood
    assert found.log_likelihood > 0.9 * fitted.log_likelihood


def test_em_ends_when_images_held_out_gain_nothing_any_more() -> None:
    still = simulate(100, noise=2.0, seed=6, moves=False)
    assert steps_made(still, 30, tolerance=0.0) < 25


def test_a_component_without_power_stays_nothing(moving, fitted) -> None:
    empty = replace(fitted, basis=torch.stack([fitted.basis[0], torch.zeros_like(fitted.mean), fitted.basis[2]]))
    few = replace(empty, latents=fitted.latents[:100], covariance=fitted.covariance[:100])
    _, equations = expectation(moving.images.take(torch.arange(100)), few, fixed=True)
    found, variance = maximisation(few, equations, torch.ones_like(fitted.mean), None)
    assert bool(found.basis.isfinite().all())
    assert float(variance[2].abs().max()) < 1e-6 * float(variance[0].max())


def test_components_that_images_say_nothing_of_are_left_out(fitted) -> None:
    """Of a latent whose posterior is as wide as its prior nothing is known; one component is kept in any case."""
    covariance = torch.diag_embed(torch.tensor([0.1, 0.999, 0.5])).expand(len(fitted.latents), 3, 3)
    kept = replace(fitted, covariance=covariance).informative()
    assert torch.equal(kept.basis, fitted.basis[[0, 2]])
    assert torch.equal(kept.latents, fitted.latents[:, [0, 2]])
    assert torch.equal(kept.covariance[0], torch.diag(torch.tensor([0.1, 0.5])))
    none = replace(fitted, covariance=torch.eye(3).expand(len(fitted.latents), 3, 3)).informative()
    assert none.dimension == 1


def test_nothing_moves_nothing_found() -> None:
    still = simulate(600, noise=0.7, seed=5, moves=False)
    mean = reconstruct_consensus(still.images).volume
    fitted = fit_ppca(still.images, mean, occupancy_mask(mean, PIXEL), 3, 12, seed=0)
    information = 1 - fitted.covariance.diagonal(dim1=1, dim2=2).mean(dim=0)
    # The motion above explains nine tenths of its latent's variance. Noise that 600 images happen to share explains
    # a little here too; nothing may come near a motion.
    assert float(information.max()) < 0.3


def test_backgrounds_that_were_subtracted_are_no_component() -> None:
    """Noise in the mean of each background goes to the image's mean, in one piece with the lowest frequencies."""
    still = simulate(1500, noise=0.7, seed=5, moves=False)
    pixels = fourier_to_images(still.images.coefficients, BOX)
    outside = (radii_of_pixels() > 0.95 * BOX / 2).reshape(BOX, BOX)
    pixels -= pixels[:, outside].mean(dim=1)[:, None, None]
    images = replace(still.images, coefficients=images_to_fourier(pixels))
    found = reconstruct_consensus(images)
    images = images.with_noise(found.noise_power)
    fitted = fit_ppca(images, found.volume, occupancy_mask(found.volume, PIXEL), 2, 30, seed=0)
    assert float((1 - fitted.covariance.diagonal(dim1=1, dim2=2).mean(dim=0)).max()) < 0.1


def radii_of_pixels() -> torch.Tensor:
    axis = torch.arange(BOX) - BOX // 2
    return (axis[:, None] ** 2 + axis**2).float().sqrt()


def test_posterior_covariance_is_calibrated(moving, fitted) -> None:
    """Against latents by regression on the truth: the errors are as large as the covariance says."""
    design = np.stack([np.ones_like(moving.t), moving.t, moving.t**2, moving.t**3], axis=1)
    latents = fitted.latents[:, 0].numpy()
    error = latents - design @ np.linalg.lstsq(design, latents, rcond=None)[0]
    variance = float(fitted.covariance[:, 0, 0].mean())
    # The posterior mean scatters about its own expectation by less than the posterior's width.
    assert 0.3 < error.var() / variance < 1.5


def test_posterior_is_that_of_the_plain_equations(moving, fitted) -> None:
    """E-step by one matrix of inner products against slices, residuals and inverses spelt out in float64."""
    images = moving.images.take(torch.arange(20))
    found, _ = expectation(images, replace(fitted, latents=fitted.latents[:20], covariance=fitted.covariance[:20]))
    plane = SlicePlane.of_box(BOX)
    volumes = torch.cat([fitted.mean[None], fitted.basis])
    coefficients = fourier_from_volume(volumes).flatten(1)
    table = torch.cat([coefficients.real, coefficients.imag]).T.contiguous()
    deviation = plane.take(images.noise_deviation())
    deviation[0] = torch.inf  # the image's mean
    slices = extract_slices(table, interpolate_slices(plane, images.rotations), len(volumes)).to(torch.complex128)
    slices = slices * (plane.take(images.ctf) / deviation)[..., None]
    basis, residual = slices[..., 1:], plane.take(images.coefficients) / deviation - slices[..., 0]
    precision = 2 * (basis.mH @ basis).real + torch.eye(basis.shape[2])
    right = 2 * (basis.mH @ residual[..., None]).real
    latents = torch.linalg.solve(precision, right)[..., 0]
    gain = 0.5 * ((right[..., 0] * latents).sum() - torch.logdet(precision).sum()) / len(images)
    # Inner products over some 200 coefficients in float32.
    assert torch.allclose(found.latents.double(), latents, atol=1e-4)
    assert torch.allclose(found.covariance.double(), torch.linalg.inv(precision), atol=1e-5)
    assert found.log_likelihood == pytest.approx(float(gain), rel=1e-3)


def testcanonical_form_keeps_the_densities(fitted) -> None:
    turned = PPCA(
        fitted.mean,
        2.0 * torch.flip(fitted.basis, dims=(0,)),
        torch.flip(fitted.latents, dims=(1,)) / 2.0 + 0.3,
        fitted.covariance,
        0.0,
    )
    again = canonical(turned, ALONE)
    assert torch.allclose(again.volumes(again.latents[:3]), turned.volumes(turned.latents[:3]), atol=1e-4)
    assert torch.allclose(again.latents.mean(dim=0), torch.zeros(3), atol=1e-5)


def test_fixed_posteriors_stay(moving, fitted) -> None:
    same, equations = expectation(moving.images, fitted, fixed=True)
    assert equations is not None
    assert torch.equal(same.latents, fitted.latents)


def test_flexible_region_is_where_two_halves_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    signal = (blob(moving_centre(0.8), 8.0) - blob(moving_centre(0.2), 8.0))[None]
    halves = [signal + 0.1 * torch.randn(1, BOX, BOX, BOX, generator=generator) for _ in range(2)]
    occupied = (blob((0.0, 0.0, 0.0), 25.0) > 0.2).float()
    region = flexible_region(halves[0], halves[1], occupied, PIXEL)
    strong = (signal[0].abs() > 0.3).numpy()
    assert region[strong].mean() > 0.95
    assert region[signal[0].abs().numpy() < 0.01].mean() < 0.02


def test_contrasts_that_differ_are_no_component() -> None:
    """Particles that stand still, some in thicker ice: without a contrast each, they spend a component on it."""
    still = simulate(400, noise=0.7, seed=4, moves=False).images
    true = 1 + 0.25 * torch.randn(400, generator=torch.Generator().manual_seed(0))
    mean = reconstruct_consensus(still).volume
    clean = SliceProjector(simulate(2, 1.0, moves=False).density(0.5)).project(still.views()) * still.ctf
    images = replace(still, coefficients=still.coefficients + clean * (true[:, None, None] - 1))
    mask = occupancy_mask(mean, PIXEL)
    same, found = (fit_ppca(images, mean, mask, 2, 12, seed=0, contrast=contrast) for contrast in (False, True))
    information = [1 - float(fit.covariance[:, 0, 0].mean()) for fit in (same, found)]
    assert information[0] > 0.5
    assert information[1] < 0.3
    assert found.contrast is not None
    assert torch.corrcoef(torch.stack([found.contrast, true]))[0, 1] > 0.95
    assert found.contrast_prior.spread == pytest.approx(0.25, abs=0.05)


def test_a_contrast_takes_nothing_of_a_motion(moving, fitted) -> None:
    mean = reconstruct_consensus(moving.images).volume
    found = fit_ppca(moving.images, mean, occupancy_mask(mean, PIXEL), 3, 8, seed=0, contrast=True)
    assert found.contrast_prior.spread < 0.1
    same, alone = (abs(np.corrcoef(fit.latents[:, 0].numpy(), moving.t)[0, 1]) for fit in (found, fitted))
    assert same > alone - 0.02

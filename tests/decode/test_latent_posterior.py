"""Latents by likelihood over states: the arithmetic against Gaussians, and the reading of a known decoder."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cryoformer.decode.density_model import ConformationModel, DecodedPoints
from cryoformer.decode.latent_posterior import (
    choose_states,
    fit_prior,
    low_rank,
    posterior_moments,
    posterior_over_states,
    refine_latents,
    state_log_likelihoods,
    uncertainty_about,
)
from cryoformer.images.fourier_images import SliceProjector
from cryoformer.imaging.fourier import crop_fourier, half_plane_weights, radii
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from decode.test_density_model import blob_model
from toy_images import BOX, PIXEL, blob, moving_centre, simulate


class KnownDecoder(ConformationModel):
    """The true motion in place of a network: latent = t."""

    def __init__(self, base: torch.Tensor) -> None:
        self.static, self.window, self.pixel_size_angstrom = base, torch.ones_like(base), PIXEL
        self.gain, self.network = torch.ones(BOX // 2 + 1), SimpleNamespace(orientation=None)

    def points(self, box: int) -> DecodedPoints:
        assert box == BOX
        voxels = torch.arange(BOX**3)
        points = grid_points(BOX, PIXEL)
        return DecodedPoints(BOX, points, torch.ones(BOX**3), voxels, points, 1.0)

    def decode(self, points: DecodedPoints, latents: torch.Tensor) -> torch.Tensor:
        return torch.stack([blob(moving_centre(float(t)), 8.0).reshape(-1) for t in latents[:, 0]])


def test_known_decoder_reads_the_true_coordinate(moving) -> None:
    start = torch.rand(600, 1, generator=torch.Generator().manual_seed(0))
    mean, covariance = refine_latents(KnownDecoder(moving.still), moving.images, start, 40, seed=0)
    error = mean[:, 0].numpy() - moving.t
    assert 1 - np.mean(error**2) / moving.t.var() > 0.9
    # Honest: the covariance is the size of the errors.
    assert 0.5 < np.mean(error**2) / float(covariance[:, 0, 0].mean()) < 2.0


def test_no_latent_is_surer_than_the_states_are_close(moving) -> None:
    """Images that leave no doubt which of few states is nearest still have their latents somewhere between them."""
    clear = simulate(200, noise=0.05, seed=1)
    states = torch.linspace(0, 1, 9)[:, None]
    mean, covariance = refine_latents(KnownDecoder(clear.still), clear.images, states, len(states), seed=0)
    error = mean[:, 0].double().numpy() - clear.t
    deviation = covariance[:, 0, 0].double().sqrt().numpy()
    assert np.abs(error).max() < 0.1  # half a gap, and what the images leave open
    assert np.mean(np.abs(error) < 2 * deviation) > 0.95


def test_likelihoods_are_those_of_every_state_by_itself(moving) -> None:
    """The short cut through the span of the states, against projecting each of them."""
    model, support = KnownDecoder(moving.still), torch.linspace(0, 1, 30)[:, None]
    images = moving.images.minus(moving.still).take(torch.arange(0, 600, 10))
    found = state_log_likelihoods(model, images, support)
    inside = radii(BOX) < BOX // 2
    weights = half_plane_weights(BOX) * inside / images.noise_power[0]
    weights[0, 0] = 0.0  # an image's mean counts for nothing
    points = model.points(BOX)
    for number in (0, 13, 29):
        density = model.decode(points, support[number : number + 1])
        predicted = SliceProjector(model.added(points, density)[0]).project(images.rotations) * images.ctf
        left = images.coefficients - predicted
        change = left.abs().square() - images.coefficients.abs().square()
        # White noise: one deviation for all shells. The whole plane counts every pair twice.
        expected = -(change * weights).sum(dim=(1, 2)) / 2
        assert torch.allclose(found[:, number], expected, rtol=0, atol=0.03 * float(expected.std()))


def test_likelihoods_at_a_smaller_box_are_of_the_same_densities(moving) -> None:
    """Against the images of every state at the full box, cropped; and progress ends when all is done."""
    model, support, done = blob_model(), torch.linspace(-15, 5, 7)[:, None], []
    images = moving.images.take(torch.arange(0, 300, 2))
    small = images.crop(12)
    found = state_log_likelihoods(model, small, support, done.append)
    weights = half_plane_weights(12) * (radii(12) < 6) / small.noise_power[0]
    weights[0, 0] = 0.0
    expected = []
    for state in support:
        predicted = model.predict(model.points(BOX), state[None].expand(len(images), 1), images)
        left = small.coefficients - crop_fourier(predicted, BOX, 12)
        change = left.abs().square() - small.coefficients.abs().square()
        expected.append(-(change * weights).sum(dim=(1, 2)) / 2)
    away = found - torch.stack(expected, dim=1)
    assert float((away - away.mean(dim=1, keepdim=True)).std()) < 0.1 * float(torch.stack(expected).std(dim=0).mean())
    assert done[-1] == 1.0
    assert done == sorted(done)


def test_many_images_are_read_in_blocks_as_all_at_once(moving, monkeypatch: pytest.MonkeyPatch) -> None:
    images, start, done = moving.images.take(torch.arange(90)), torch.linspace(0, 1, 15)[:, None], []
    model = KnownDecoder(moving.still)
    whole = refine_latents(model, images, start, 15, seed=0)
    monkeypatch.setattr("cryoformer.decode.latent_posterior.BLOCK", 40)
    monkeypatch.setattr("cryoformer.decode.latent_posterior.BATCH", 16)
    blocks = refine_latents(model, images, start, 15, seed=0, progress=done.append)
    # Not the same: the prior comes from a sample of 40.
    assert float((blocks[0] - whole[0]).abs().mean()) < 0.1 * float(whole[0].std())
    assert float(blocks[1].mean() / whole[1].mean()) == pytest.approx(1.0, abs=0.2)
    assert done[-1] == 1.0
    assert done == sorted(done)


def test_low_rank_keeps_the_densities() -> None:
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(40, 5, generator=generator) @ torch.randn(5, 300, generator=generator)
    noisy = exact + 1e-3 * torch.randn(40, 300, generator=generator)
    weights, basis = low_rank(noisy, lost=1e-4)
    assert len(basis) == 5
    assert float((weights @ basis - noisy).norm() / noisy.norm()) < 1e-2
    assert len(low_rank(noisy, lost=0.5)[1]) < 5


def test_states_that_hardly_differ_have_no_negative_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    support = 3.0 + 1e-5 * torch.randn(50, 2, generator=generator)
    _, covariance = posterior_moments(torch.softmax(torch.randn(200, 50, generator=generator), dim=1), support)
    assert covariance.diagonal(dim1=1, dim2=2).min() >= 0
    _, covariance = posterior_moments(torch.full((5, 50), 0.02), support[:1].expand(50, 2))
    assert covariance.abs().max() < 1e-12


def test_prior_is_the_share_of_the_population() -> None:
    likelihood = torch.log(torch.tensor([[0.9, 0.1]] * 80 + [[0.1, 0.9]] * 20))
    posterior = posterior_over_states(likelihood, fit_prior(likelihood, iterations=500))
    # Maximum likelihood for the share p of state 0: 0.9 p + 0.1 (1 - p) = 0.8.
    assert float(posterior[:, 0].mean()) == pytest.approx(0.875, abs=2e-3)


def test_states_are_latents_of_particles_and_set_by_the_seed() -> None:
    latents = torch.randn(50, 2)
    states = choose_states(latents, 10, seed=1)
    assert all((latents == state).all(dim=1).any() for state in states)
    assert torch.equal(states, choose_states(latents, 10, seed=1))
    assert not torch.equal(states, choose_states(latents, 10, seed=2))


def test_projection_of_the_known_decoder_is_the_microscope(moving) -> None:
    """Guards the helper above: without noise the model explains the image exactly."""
    model = KnownDecoder(moving.still)
    points = model.points(BOX)
    density = model.decode(points, torch.tensor([[float(moving.t[0])]]))
    ours = model.project(points, density, moving.images.take(torch.tensor([0])))
    direct = splat_project(density, grid_points(BOX, PIXEL), moving.images.rotations[:1], None, BOX, PIXEL)
    assert torch.allclose(ours, direct * moving.images.ctf[:1])


def test_a_point_estimate_is_off_by_the_posterior_about_it() -> None:
    mean, point = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.5, 2.0]])
    covariance = torch.diag(torch.tensor([0.2, 0.3]))[None]
    draws = torch.distributions.MultivariateNormal(mean[0], covariance[0]).sample((200_000,)) - point
    torch.testing.assert_close(uncertainty_about(point, mean, covariance)[0], draws.T @ draws / 2e5, atol=5e-3, rtol=0)

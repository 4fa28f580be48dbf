"""Posteriors of poses: derivatives against an exact transform, errors found again, and their size."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from cryoformer.imaging.fourier import shift_phases
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.poses.posterior import PosePrior, PoseStep, SlopedDensity, pose_steps, turned
from toy_images import BOX, PIXEL, Simulated, blob, simulate

WIDE = PosePrior(0.1, 10.0)


def exact_slice(
    density: SlopedDensity, volume: torch.Tensor, rotations: torch.Tensor, shifts: torch.Tensor
) -> torch.Tensor:
    """The sum over voxels of V(x) exp(-2 pi i q.x / D), in double precision."""
    k = torch.stack([density.plane.kx, density.plane.ky]).double()
    q = rotations.double()[:, :2].transpose(1, 2) @ k
    places = grid_points(BOX, 1.0).double()
    scale = rotations[:, 0].double().norm(dim=1)
    angle = torch.einsum("vc,bcm->bmv", places, q) / BOX
    angle = angle + (scale[:, None] * (shifts.double() @ k) / (BOX * PIXEL))[..., None]
    return torch.polar(torch.ones_like(angle), -2 * torch.pi * angle) @ volume.double().reshape(-1).to(torch.complex128)


@pytest.mark.parametrize("scale", [1.0, 0.8])
@pytest.mark.parametrize("axis", range(5))
def test_slopes_are_the_derivatives_of_the_exact_transform(axis: int, scale: float) -> None:
    volume = blob((20.0, -10.0, 5.0), 8.0) + 0.5 * blob((-10.0, 15.0, -20.0), 10.0)
    density = SlopedDensity(volume[None], PIXEL)
    rotations = torch.tensor(uniform_rotations(4, 1), dtype=torch.float32)
    value, slopes = density.project(rotations, torch.zeros(4, 0), torch.full((4,), scale))
    rotations = scale * rotations
    none = torch.zeros(4, 2)
    step = torch.zeros(4, 5, dtype=torch.float64)
    step[:, axis] = 1e-3
    ahead, behind = (
        exact_slice(density, volume, turned(rotations.double(), sign * step[:, :3]), sign * step[:, 3:])
        for sign in (1, -1)
    )
    expected = (ahead - behind) / 2e-3
    # Trilinear interpolation is worst at the mean of the image, which no likelihood uses.
    away = (value - exact_slice(density, volume, rotations, none))[:, 1:]
    assert away.norm() < 0.03 * value[:, 1:].norm()
    assert (slopes[..., axis] - expected).norm() < 0.05 * expected.norm()


def misplaced(made: Simulated, errors: torch.Tensor) -> Simulated:
    """The same images at poses from which the true ones are ``errors`` (w, d) away."""
    images = made.images
    return replace(
        made,
        images=replace(
            images,
            rotations=turned(images.rotations, -errors[:, :3]),
            coefficients=images.coefficients * shift_phases(errors[:, 3:], BOX, PIXEL),
        ),
    )


def random_errors(count: int, turn: float, shift: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, 5, generator=generator) * torch.tensor([turn] * 3 + [shift] * 2)


def test_a_turn_and_a_shift_are_found_with_their_signs() -> None:
    made = simulate(8, noise=0.02, moves=False)
    errors = random_errors(8, 0.05, 3.0)
    density = SlopedDensity(made.density(0.5)[None], PIXEL)
    found = pose_steps(misplaced(made, errors).images, density, torch.zeros(8, 5), WIDE, 5)
    assert (found.mean[:, :3] - errors[:, :3]).abs().max() < 0.01
    assert (found.mean[:, 3:] - errors[:, 3:]).abs().max() < 0.3


def test_steps_from_where_an_earlier_round_came_to_lead_to_the_same_pose() -> None:
    made = simulate(8, noise=0.1, moves=False)
    errors = random_errors(8, 0.05, 3.0)
    density = SlopedDensity(made.density(0.5)[None], PIXEL)
    given = misplaced(made, errors)
    direct = pose_steps(given.images, density, torch.zeros(8, 5), WIDE, 8)
    start = 0.7 * errors
    moved = misplaced(made, errors - start)  # the same images, brought to the poses of the start
    moved = replace(moved, images=replace(moved.images, rotations=turned(given.images.rotations, start[:, :3])))
    from_start = pose_steps(moved.images, density, start, WIDE, 8)
    torch.testing.assert_close(from_start.mean, direct.mean, atol=0.02, rtol=0.02)


def test_more_steps_are_never_less_probable() -> None:
    made = simulate(50, noise=0.7, moves=False)
    density = SlopedDensity(made.density(0.5)[None], PIXEL)
    given = misplaced(made, random_errors(50, 1.0, 20.0)).images
    prior = PosePrior(1.0, 20.0)
    found = [pose_steps(given, density, torch.zeros(50, 5), prior, n).log_posterior for n in range(1, 7)]
    for few, more in pairwise(found):
        assert (more >= few - 1e-3).all()
    assert (found[-1] > found[0] + 1).all()


def test_the_images_say_how_far_poses_are_off_and_how_sure_they_are() -> None:
    made = simulate(600, noise=0.7, moves=False)
    errors = random_errors(600, 0.07, 4.0)
    density = SlopedDensity(made.density(0.5)[None], PIXEL)
    evidence = pose_steps(misplaced(made, errors).images, density, torch.zeros(600, 5), WIDE, 4).evidence()
    prior = evidence.fitted_prior(WIDE)
    assert prior.turn == pytest.approx(0.07, rel=0.1)
    assert prior.shift == pytest.approx(4.0, rel=0.1)
    mean, covariance = evidence.posterior(prior)
    away = (errors - mean) / covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert np.all(np.abs(away.square().mean(dim=0).sqrt().numpy() - 1) < 0.15)
    assert (errors - mean)[:, 3:].std() < 0.7 * errors[:, 3:].std()


def test_poses_that_are_right_stay() -> None:
    made = simulate(600, noise=0.7, moves=False)
    density = SlopedDensity(made.density(0.5)[None], PIXEL)
    evidence = pose_steps(made.images, density, torch.zeros(600, 5), WIDE, 4).evidence()
    prior = evidence.fitted_prior(WIDE, steps=200)
    mean, _ = evidence.posterior(prior)
    wide, _ = evidence.posterior(WIDE)
    assert mean[:, :3].std() < 0.25 * wide[:, :3].std()
    assert mean[:, 3:].std() < 0.25 * wide[:, 3:].std()


def test_latents_are_integrated_out() -> None:
    generator = torch.Generator().manual_seed(3)
    factors = torch.randn(4, 30, 7, generator=generator)
    information, vector = factors.transpose(1, 2) @ factors, torch.randn(4, 7, generator=generator)
    found = PoseStep(torch.zeros(4, 7), information, vector, torch.zeros(4)).evidence()
    joint = torch.linalg.inv(information + torch.diag(torch.tensor([0.0] * 5 + [1.0] * 2)))
    precision = torch.linalg.inv(joint[:, :5, :5])
    torch.testing.assert_close(found.information, precision, rtol=1e-3, atol=1e-3)
    mean = torch.einsum("njk,nk->nj", joint, vector)[:, :5]
    torch.testing.assert_close(found.vector, torch.einsum("njk,nk->nj", precision, mean), rtol=1e-3, atol=1e-3)


def moving_density(made: Simulated, components: int) -> SlopedDensity:
    """Mean and principal components of the states; z has unit variance."""
    states = torch.stack([made.density(t).reshape(-1) for t in np.linspace(0, 1, 21).tolist()])
    mean = states.mean(dim=0)
    _, sizes, directions = torch.linalg.svd((states - mean) / 21**0.5, full_matrices=False)
    basis = (sizes[:, None] * directions)[:components]
    return SlopedDensity(torch.cat([mean[None], basis]).view(-1, BOX, BOX, BOX), PIXEL)


def test_slopes_of_latents_are_what_a_density_gains() -> None:
    made = simulate(4, noise=0.7)
    density, latents = moving_density(made, 1), torch.tensor([[-1.0], [0.0], [0.5], [2.0]])
    here, slopes = density.project(made.images.rotations, latents, torch.ones(4))
    there, _ = density.project(made.images.rotations, latents + 0.5, torch.ones(4))
    torch.testing.assert_close(there - here, 0.5 * slopes[..., 5], rtol=1e-3, atol=1e-3)


def test_a_motion_is_not_taken_for_a_turn() -> None:
    made = simulate(600, noise=0.7)
    turns = []
    for density in (moving_density(made, 0), moving_density(made, 3)):
        start = torch.zeros(600, 5 + density.components)
        evidence = pose_steps(made.images, density, start, WIDE, 4).evidence()
        turns.append(evidence.fitted_prior(WIDE, steps=100).turn)
    assert turns[1] < 0.6 * turns[0]

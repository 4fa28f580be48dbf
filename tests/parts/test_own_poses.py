"""Poses of parts in single particles: how far they are off the path, and what one image says of it."""

import math

import pytest
import roma
import torch

from cryoformer.decode.latent_posterior import gaussian_draws
from cryoformer.parts.density import PartDensities
from cryoformer.parts.motion import moved
from cryoformer.parts.own_poses import OwnPoses, PartSpread, path_slopes
from swinging_bar import bar, body, motions_of, simulate, turn
from toy_images import PIXEL, blob

OFF = math.radians(15)


def reader(off: torch.Tensor) -> tuple[OwnPoses, torch.Tensor]:
    """Of images of the bar, its states known, and the true rotations of the bar."""
    images, t = simulate(off)
    part = sum(blob(tuple(place.tolist()), 6.0) for place in bar())
    densities = PartDensities(body(), part[None], PIXEL)
    latents = torch.from_numpy(t).float()[:, None]
    true = roma.rotvec_to_rotmat(off) @ torch.stack([turn(float(x)) for x in t])
    return OwnPoses(images.minus(body()), densities, motions_of(1.0), latents), true


def gain(found: list, spread: PartSpread) -> float:
    return float((found[0].log_evidence(spread) - found[0].log_evidence(None)).mean())


def test_a_part_off_its_path_is_found_where_it_is():
    off = OFF * torch.randn(240, 3, generator=torch.Generator().manual_seed(7))
    own, true = reader(off)
    first, likelihood = own.evidence()
    spread = first[0].fitted()
    assert gain(first, spread) > 1.0
    (mean, covariance), (spread,) = own.read(first, likelihood, [spread])
    assert spread.turn == pytest.approx(OFF, rel=0.2)
    assert spread.shift < 2.0
    before = roma.rotmat_geodesic_distance(own.places.rotations[0], true)
    after = roma.rotmat_geodesic_distance(moved(own.places, mean).rotations[0], true)
    assert after.mean() < 0.7 * before.mean()
    # What is left is what the posteriors say.
    said = covariance[0].diagonal(dim1=1, dim2=2)[:, :3].sum(dim=1).mean().sqrt()
    assert float(after.square().mean().sqrt()) == pytest.approx(float(said), rel=0.3)


def test_a_part_on_its_path_stays_there():
    own, _ = reader(torch.zeros(240, 3))
    first, _ = own.evidence()
    spread = first[0].fitted()
    assert spread.turn < 0.25 * OFF
    assert gain(first, spread) < 0.05


def test_slopes_of_the_path_lie_in_the_frame_of_the_molecule():
    motions, latents = motions_of(1.0), torch.tensor([[0.2], [0.9]])
    (slopes,) = path_slopes(motions, latents, torch.tensor([0.5]))
    wanted = torch.zeros(2, 6)
    wanted[:, 2] = 0.5 * math.radians(60)
    torch.testing.assert_close(slopes[..., 0], wanted, atol=0.03, rtol=0)


def test_draws_scatter_as_the_posterior():
    mean, covariance = torch.randn(1, 2, 6), torch.diag(torch.arange(1.0, 7.0)).expand(1, 2, 6, 6)
    drawn = gaussian_draws(mean, covariance, 4000, seed=0).view(2, 4000, 6)
    torch.testing.assert_close(drawn.mean(dim=1), mean[0], atol=0.15, rtol=0)
    torch.testing.assert_close(drawn.var(dim=1)[0], torch.arange(1.0, 7.0), atol=0, rtol=0.1)

"""Motions of a linear model told apart by where they are."""

from dataclasses import replace

import numpy as np
import torch

from cryoformer.linear.focus import motions_within
from cryoformer.linear.ppca import PPCA
from toy_images import BOX, blob

COUNT = 400


def mixed(strength: float = 1.0) -> tuple[PPCA, torch.Tensor]:
    """Two motions in two places, as components that are a mixture of both; and their coordinates."""
    generator = torch.Generator().manual_seed(0)
    motions = torch.stack([blob((-30.0, 0.0, 0.0), 10.0), strength * blob((30.0, 0.0, 0.0), 10.0)])
    coordinates = torch.randn(COUNT, 2, generator=generator)
    turn = torch.linalg.qr(torch.randn(2, 2, generator=generator))[0]
    basis = torch.tensordot(turn, motions, dims=1)
    covariance = (turn @ torch.diag(torch.tensor([0.1, 0.3])) @ turn.T).repeat(COUNT, 1, 1)
    return PPCA(torch.zeros(BOX, BOX, BOX), basis, coordinates @ turn.T, covariance, 0.0), coordinates


def half(sign: int) -> torch.Tensor:
    region = torch.zeros(BOX, BOX, BOX)
    region[:, :, BOX // 2 :] = 1.0
    return region if sign > 0 else region.flip(2)


def test_the_motion_in_a_region_comes_out_alone():
    for strength in (1.0, 0.2):
        ppca, coordinates = mixed(strength)
        for number, sign in enumerate((-1, 1)):
            found, shares = motions_within(ppca, half(sign))
            assert found is not None
            assert found.dimension == 1
            np.testing.assert_allclose(shares, [1, 0], atol=0.01)
            correlation = np.corrcoef(found.latents[:, 0], coordinates[:, number])[0, 1]
            assert abs(correlation) > 0.999
            # Its posterior, in units of its own scatter, and its density.
            variance = float(found.latents.var() + found.covariance.mean())
            assert abs(variance - 1) < 0.01
            np.testing.assert_allclose(found.covariance.mean(), (0.1, 0.3)[number] / (1 + (0.1, 0.3)[number]), rtol=0.2)
            density = found.latents[0, 0] * found.basis[0]
            expected = coordinates[0, number] * blob(((-30.0, 30.0)[number], 0.0, 0.0), 10.0) * (1, strength)[number]
            centre = coordinates[:, number].mean() / coordinates[0, number]
            assert float((density - (1 - centre) * expected).norm() / expected.norm()) < 0.05


def test_a_motion_elsewhere_is_not_in_it():
    ppca, _ = mixed()
    found, shares = motions_within(replace(ppca, basis=ppca.basis * half(1)), half(-1))
    assert found is None
    assert max(shares) < 0.1


def test_components_end_at_the_edge():
    ppca, _ = mixed()
    region = half(1)
    found, _ = motions_within(ppca, region)
    assert found is not None
    assert not found.basis[:, region == 0].any()

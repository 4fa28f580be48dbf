"""Motions of a linear model told apart by where they are."""

from dataclasses import replace

import numpy as np
import torch

from cryoformer.formats import load_particles
from cryoformer.images.linear_motion import LinearMotion
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import StreamedImages, prepare_images
from cryoformer.linear.focus import divide
from cryoformer.linear.ppca import PPCA
from toy_images import BOX, blob, simulate, write_particles

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
            divided = divide(ppca, half(sign))
            found, shares = divided.within, divided.shares
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
    divided = divide(replace(ppca, basis=ppca.basis * half(1)), half(-1))
    assert divided.within is None
    assert max(divided.shares) < 0.1


def test_components_end_at_the_edge():
    ppca, coordinates = mixed()
    region = half(1)
    divided = divide(ppca, region)
    assert divided.within is not None
    assert divided.elsewhere is not None
    assert not divided.within.basis[:, region == 0].any()
    assert not divided.elsewhere.basis[:, region == 1].any()
    correlation = np.corrcoef(divided.elsewhere.latents[:, 0], coordinates[:, 0])[0, 1]
    assert abs(correlation) > 0.999


def test_motion_is_taken_off_the_images(tmp_path):
    """In memory, cropped, and read from disk."""
    made = simulate(40, noise=0.7, seed=1)
    basis = torch.stack([blob((20.0, 0.0, 0.0), 9.0), blob((-20.0, 5.0, 0.0), 9.0)])
    latents = torch.randn(40, 2, generator=torch.Generator().manual_seed(3))
    left = made.images.minus_motion(LinearMotion(basis, latents))
    for row in (0, 17):
        density = torch.tensordot(latents[row], basis, dims=1)
        alone = made.images.take(torch.tensor([row])).minus(density).coefficients[0]
        torch.testing.assert_close(left.coefficients[row], alone, rtol=1e-4, atol=1e-3)
    path = write_particles(made, tmp_path)
    on_disk = prepare_images(load_particles(path), tmp_path / "cache", ImageSettings(memory_gib=1e-6, device="cpu"))
    in_memory = prepare_images(load_particles(path), tmp_path / "other", ImageSettings(device="cpu"))
    assert isinstance(on_disk, StreamedImages)
    rows = torch.arange(5, 12)
    for box in (BOX, 16):
        # A cache from before holds the images as they are, and one written after does too.
        for _ in range(2):
            one = on_disk.minus_motion(LinearMotion(basis, latents)).crop(box).take(rows)
            other = in_memory.minus_motion(LinearMotion(basis, latents)).crop(box).take(rows)
            size = float(other.coefficients.abs().mean())
            assert float((one.coefficients - other.coefficients).abs().mean()) < 0.01 * size

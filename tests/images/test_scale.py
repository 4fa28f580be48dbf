"""An image that is sampled more coarsely shows a smaller density: whatever slices or projects heeds its scale."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cryoformer.images.fourier_images import FourierImages
from cryoformer.linear.consensus import Consensus, reconstruct_consensus, wiener_backprojection
from cryoformer.linear.occupancy import _predicted
from cryoformer.linear.ppca import PPCA, expectation
from cryoformer.validate.null_images import null_images
from toy_images import Simulated, simulate

COUNT = 60


@pytest.fixture(scope="module")
def made() -> Simulated:
    return simulate(COUNT, noise=0.1)


@pytest.fixture(scope="module")
def consensus(made: Simulated) -> Consensus:
    return reconstruct_consensus(made.images)


def _latents(images: FourierImages, mean: torch.Tensor) -> torch.Tensor:
    start = PPCA(mean, mean[None] * 0.1, torch.zeros(COUNT, 1), torch.ones(COUNT, 1, 1), 0.0)
    return expectation(images, start, accumulate=False)[0].latents


USES: dict[str, Callable[[FourierImages, Consensus], torch.Tensor]] = {
    "residuals": lambda images, consensus: images.minus(consensus.volume).coefficients,
    "back-projection": lambda images, consensus: wiener_backprojection(images).volume,
    "latents of PPCA": lambda images, consensus: _latents(images, consensus.volume),
    "fit of a mask": lambda images, consensus: torch.tensor(
        _predicted(images, consensus, torch.ones_like(consensus.volume), torch.arange(COUNT))
    ),
    "simulated images": lambda images, consensus: null_images(images, consensus.volume, 0).coefficients,
}


@pytest.mark.parametrize("use", USES)
def test_scale_is_heeded(made: Simulated, consensus: Consensus, use: str) -> None:
    scale = torch.linspace(0.7, 1.0, COUNT)
    scaled = replace(made.images, scale=scale)
    # The same in the rotations themselves, which then are none.
    in_rotations = replace(made.images, rotations=made.images.rotations * scale[:, None, None])
    found, expected, ignored = (USES[use](images, consensus) for images in (scaled, in_rotations, made.images))
    torch.testing.assert_close(found, expected)
    assert (found - ignored).abs().max() > 0.01 * ignored.abs().max()

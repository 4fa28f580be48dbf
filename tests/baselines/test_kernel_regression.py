"""Kernel regression: near images count, widths are nested, and the data choose between noise and blur."""

import numpy as np
import pytest
import torch

from cryoformer.baselines.kernel_regression import KernelRegression, choose_kernels, kernel_sizes
from toy_images import BOX, PIXEL, blob, moving_centre, simulate


@pytest.fixture(scope="module")
def regression() -> tuple[KernelRegression, object]:
    """Images whose latent is the motion's coordinate itself, known to a hundredth."""
    made = simulate(800, noise=0.4, seed=2)
    latents = torch.from_numpy(made.t.astype(np.float32))[:, None]
    return KernelRegression(made.images, latents, torch.full((800, 1, 1), 1e-4)), made


def overlap(volume: torch.Tensor, t: float) -> float:
    """How much density stands where the blob should be."""
    return float((volume * blob(moving_centre(t), 8.0)).sum())


def test_the_blob_stands_where_the_latent_says(regression) -> None:
    found, made = regression
    low, high = (found.volume(torch.tensor([t])) for t in (0.1, 0.9))
    assert overlap(low, 0.1) > 1.5 * overlap(high, 0.1)
    assert overlap(high, 0.9) > 1.5 * overlap(low, 0.9)
    mean = made.density(0.5)
    correlation = np.corrcoef(low.flatten(), made.density(0.1).flatten())[0, 1]
    assert correlation > np.corrcoef(low.flatten(), mean.flatten())[0, 1]
    assert correlation > 0.97


def test_an_image_that_is_not_sure_counts_less_than_one_that_is() -> None:
    made = simulate(160, noise=0.7, seed=1)
    covariance = torch.full((160, 1, 1), 1e-2)
    covariance[7] = 1.0
    density = KernelRegression(made.images, torch.zeros(160, 1), covariance).log_density(torch.zeros(1))
    assert int(density.argmin()) == 7


def test_images_are_ranked_by_the_density_of_their_latents() -> None:
    """Up to a constant that of the multivariate normal, as torch has it."""
    made, generator = simulate(160, noise=0.7, seed=1), torch.Generator().manual_seed(0)
    latents, factor = torch.randn(160, 3, generator=generator), torch.randn(160, 3, 3, generator=generator)
    covariance = factor @ factor.mT + 0.1 * torch.eye(3)
    point = torch.tensor([0.3, -0.5, 1.0])
    found = KernelRegression(made.images, latents, covariance).log_density(point)
    expected = torch.distributions.MultivariateNormal(latents, covariance).log_prob(point)
    torch.testing.assert_close(found - found[0], expected - expected[0], rtol=1e-3, atol=1e-3)


def test_kernels_are_nested_and_never_too_small() -> None:
    assert kernel_sizes(2500) == [78, 156, 312, 625]
    assert kernel_sizes(60) == [40]
    assert kernel_sizes(20) == [20]


def test_the_kernel_is_chosen_place_by_place() -> None:
    rng = torch.Generator().manual_seed(0)
    still, moves = blob((-25.0, 0.0, 0.0), 9.0), blob((25.0, 0.0, 0.0), 9.0)

    def noise(size: float) -> torch.Tensor:
        return size * torch.randn(BOX, BOX, BOX, generator=rng)

    # The wide kernel has little noise, but has lost what moves.
    halves = [torch.stack([still + moves + noise(0.05), still + noise(0.005)]) for _ in range(2)]
    chosen = choose_kernels(halves[0], halves[1], PIXEL)[0]
    centre = BOX // 2
    assert float(chosen[centre, centre, centre + 5]) > 0.8
    outside = chosen[:5, :5, :5].std()
    assert float(outside) < 0.5 * float(halves[0][0, :5, :5, :5].std())

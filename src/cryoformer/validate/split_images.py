r"""Calibration without truth: every image read twice, from two halves of its Fourier coefficients.

The coefficients are dealt out like the fields of a checkerboard. Their noise is independent, so the latents read from
the two halves, m_a and m_b, differ by as much as the posteriors allow, if noise spectrum, CTF and likelihood are right.
How much that is depends on prior and decoder; it is measured by reading images that the run's own decoder has made, one
for each real image, with its pose, its CTF, noise of the run's spectrum, and a state drawn from its posterior:

    factor = sqrt( sum |m_a - m_b|^2 over the particles / the same over the simulated ones )

A factor of 1.2 says that standard deviations should be 1.2 times as large. It cannot see what both halves share: a
decoder that is wrong everywhere in the same way.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.latent_posterior import choose_states, fit_prior, posterior_over_states, state_log_likelihoods
from cryoformer.images.fourier_images import FourierImages, checkerboard
from cryoformer.imaging.grids import crop_volume
from cryoformer.validate.null_images import coloured_noise
from cryoformer.validate.outcome import Outcome

NAME = "split_images"
PARTICLES = 600
DRAWS = 500
LARGEST_FACTOR = 1.15


@dataclass(frozen=True)
class SplitTest:
    """|m_a - m_b|^2 of particles and of their simulated twins."""

    observed: Float[np.ndarray, " n"]
    simulated: Float[np.ndarray, " n"]

    @property
    def factor(self) -> float:
        """By which standard deviations are too small."""
        return float(np.sqrt(self.observed.mean() / max(float(self.simulated.mean()), 1e-30)))

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """95 % interval of the factor, by bootstrap over the particles."""
        rng = np.random.default_rng(seed)
        rows = rng.integers(0, len(self.observed), (DRAWS, len(self.observed)))
        ratios = self.observed[rows].mean(axis=1) / np.maximum(self.simulated[rows].mean(axis=1), 1e-30)
        low, high = np.quantile(np.sqrt(ratios), [0.025, 0.975])
        return float(low), float(high)


@torch.no_grad()
def split_images(
    model: ConformationModel,
    images: FourierImages,
    latents: Float[Tensor, "m k"],
    states: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> SplitTest:
    """Read some images and their twins twice each; ``latents`` are those of the whole run."""
    support = choose_states(latents, states, seed)
    residuals = images.minus(crop_volume(model.static, images.box))
    passes = iter(range(4))

    def read(some: FourierImages) -> tuple[Tensor, Tensor]:
        first, second = (
            state_log_likelihoods(model, half, support, _part(progress, next(passes))) for half in checkerboard(some)
        )
        return first, second

    first, second = read(residuals)
    weights = fit_prior(first + second)
    generator = torch.Generator().manual_seed(seed)
    posterior = posterior_over_states(first + second, weights)
    drawn = torch.multinomial(posterior.cpu(), 1, generator=generator)[:, 0].to(posterior.device)
    twins = read(simulated_residuals(model, residuals, support[drawn], seed))

    def difference(halves: tuple[Tensor, Tensor]) -> Float[np.ndarray, " n"]:
        one, other = (posterior_over_states(half, weights) @ support for half in halves)
        return np.asarray((one - other).square().sum(dim=1).double().cpu().numpy())

    return SplitTest(difference((first, second)), difference(twins))


def simulated_residuals(
    model: ConformationModel, images: FourierImages, latents: Float[Tensor, "n k"], seed: int
) -> FourierImages:
    """What the network adds at these latents, one per image, imaged as these images are, with noise."""
    points = model.points(images.box)
    simulated = coloured_noise(images, seed)
    for rows in images.every():
        some = images.take(rows)
        simulated[rows] += model.predict(points, latents[rows], some)
    return replace(images, coefficients=simulated)


def split_outcome(test: SplitTest) -> Outcome:
    """The test in words and numbers."""
    low, high = test.interval()
    fails = low > 1.0 and test.factor > LARGEST_FACTOR
    if fails:
        sentence = (
            f"Read twice from independent halves of each image, latents differ {test.factor:.2f} times as much as they "
            "should: multiply their standard deviations by that."
        )
    else:
        sentence = (
            f"Read twice from independent halves of each image, latents differ no more than their uncertainty allows "
            f"(factor {test.factor:.2f})."
        )
    return Outcome(
        NAME,
        "fails" if fails else "holds",
        sentence,
        {
            "standard_deviation_factor": test.factor,
            "interval_95": [low, high],
            "particles": len(test.observed),
        },
    )


def sample_rows(count: int, most: int = PARTICLES) -> Int[Tensor, " m"]:
    """At most so many rows, evenly spread."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def _part(progress: Callable[[float], None] | None, number: int) -> Callable[[float], None] | None:
    return None if progress is None else lambda done: progress((number + done) / 4)

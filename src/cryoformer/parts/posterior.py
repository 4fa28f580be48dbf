r"""Which state an image shows: the likelihood of every image under the states of the parts, and draws from it.

As in stage D (:mod:`cryoformer.decode.latent_posterior`): states are latents taken from the population, their densities
are written in a basis that costs an image as many slices as the densities have dimensions. An image at a low
signal-to-noise ratio belongs to several places of a path, so whatever is learnt from it is an expectation over its
posterior, here over a few draws.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cryoformer.decode.latent_posterior import (
    low_rank,
    low_rank_log_likelihoods,
    posterior_moments,
    posterior_over_states,
)
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.cut import Cut
from cryoformer.imaging.slices import slice_table
from cryoformer.parts.density import MovedParts, PartDensities
from cryoformer.parts.kept_density import KeptDensity
from cryoformer.parts.motion import PartMotions

ROWS_AT_ONCE = 5000


@dataclass(frozen=True)
class StatePosterior:
    """p(s | Y_i) over states, and how probable the images are with the states' weights in the population.

    ``evidence``: log p(Y_i), up to the constant of the noise.
    """

    probabilities: Float[Tensor, "n s"]
    evidence: Float[Tensor, " n"]

    def draws(self, count: int, seed: int) -> Int[Tensor, "n c"]:
        """States of every image: its posterior cut into as many shares of equal probability, one state from each.

        The shares come in a cycle that begins anywhere, so that the first draw is one from the whole posterior.
        """
        generator = torch.Generator().manual_seed(seed)
        images = len(self.probabilities)
        first = torch.randint(count, (images, 1), generator=generator)
        shares = ((torch.arange(count) + first) % count + torch.rand(images, count, generator=generator)) / count
        cumulative = self.probabilities.cumsum(dim=1)
        cumulative = cumulative / cumulative[:, -1:]
        return torch.searchsorted(cumulative, shares.to(cumulative)).clamp(max=self.probabilities.shape[1] - 1)

    def moments(self, support: Float[Tensor, "s k"]) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k k"]]:
        """Mean and covariance of the latents; no posterior is narrower than the gaps between states."""
        return posterior_moments(self.probabilities, support)


@torch.no_grad()
def part_log_likelihoods(
    residuals: Images,
    densities: PartDensities,
    motions: PartMotions,
    support: Float[Tensor, "s k"],
    region: Bool[Tensor, "d d d"],
    kept: KeptDensity | None = None,
) -> Float[Tensor, "n s"]:
    """log p(Y_i | s) over that of the still density alone, from what that leaves of the images.

    ``region``: where parts ever are. ``kept``: what the network adds to the parts in these states.
    """
    if kept is not None:
        region = region | kept.region
    inside = region.reshape(-1).numpy()
    moved = MovedParts(densities.parts, densities.pixel_size_angstrom)
    states = torch.from_numpy(np.stack([volume.reshape(-1)[inside] for volume in moved.all(motions.at(support))]))
    if kept is not None:
        states = states + kept.weights.cpu() @ kept.basis.flatten(1)[:, region.reshape(-1)].cpu()
    weights, basis = low_rank(states)
    cut = Cut.about(region)
    table = slice_table(lambda rows: cut.place(basis[rows], region), len(basis), cut.side)
    parts = torch.arange(len(residuals)).split(ROWS_AT_ONCE)
    return torch.cat([low_rank_log_likelihoods(residuals.take(rows), weights, table, cut=cut) for rows in parts])


def state_posterior(
    log_likelihood: Float[Tensor, "n s"], left: Float[Tensor, " n"], weights: Float[Tensor, " s"]
) -> StatePosterior:
    """The posterior over states of these weights; ``left``: log likelihood under the still density alone."""
    best = log_likelihood.amax(dim=1)
    summed = (torch.exp(log_likelihood - best[:, None]) * weights).sum(dim=1)
    return StatePosterior(posterior_over_states(log_likelihood, weights), left + best + summed.log())

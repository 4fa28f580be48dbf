"""Local uncertainty of a state: how far its density may be off, voxel by voxel.

Two sources add in squares. The latent of a particle is known up to its posterior covariance: draws from it, decoded,
spread by the first. The maps that everything rests on are noisy: the half maps give the second. What both miss is a
network that is wrong with confidence; only independently trained halves can show that.
"""

import numpy as np
from jaxtyping import Float

from cryoformer.assess.masks import state_spread
from cryoformer.explore.clusters import draw_latents
from cryoformer.explore.explored_run import ExploredRun
from cryoformer.explore.half_maps import noise_deviation

DRAWS = 32


def state_uncertainty(run: ExploredRun, particle: int, seed: int = 0) -> Float[np.ndarray, "d d d"]:
    """Standard deviation [z, y, x] of the density of a particle's state, in units of the density."""
    rng = np.random.default_rng(seed)
    mean = np.repeat(run.latents_mean[particle][None], DRAWS, axis=0)
    covariance = np.repeat(run.latents_covariance[particle][None], DRAWS, axis=0)
    spread = state_spread(run.latent_volumes(draw_latents(mean, covariance, rng)))
    noise = noise_deviation(run.half_maps, run.pixel_size_angstrom)
    return np.sqrt(spread.deviation**2 + noise**2)

"""The flexibility map: how much the density differs over the data's own states, and the regions where it does.

It is the standard deviation of the decoded density over a random sample of particles. Where the network decodes nothing
(outside ``volumes/flexible.mrc``) the density is static whatever the state, so flexibility is zero there by
construction: it says "not modelled as moving", not "proven still".
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation, label

from cryoformer.assess.clusters import draw_latents
from cryoformer.assess.ground_truth import GroundTruth
from cryoformer.assess.masks import MOVING_FRACTION as MOVING_MASK_FRACTION
from cryoformer.assess.masks import StateSpread, molecule_mask, state_spread
from cryoformer.explore.half_maps import noise_deviation
from cryoformer.run.run_folder import Run

STATES = 128
DRAWS = 32
"""Of a latent from its posterior."""
MOVING_FRACTION = 0.2
"""A voxel belongs to a moving region above this fraction of the largest flexibility."""
LEAST_CHANGE = 0.01
"""Densities that differ by less than this fraction of the strongest one do not move."""
SMALLEST_REGION = 0.05
"""Regions with less of the summed flexibility than this are left out."""
MOST_REGIONS = 4


@dataclass(frozen=True)
class Region:
    """A connected region of the flexibility map."""

    voxels: Bool[np.ndarray, "d d d"]
    share: float
    """Of the flexibility summed over all regions."""


def sampled_states(latents: Float[np.ndarray, "n k"], seed: int = 0) -> Float[np.ndarray, "s k"]:
    """Latents of up to 128 particles drawn at random."""
    return latents[np.random.default_rng(seed).permutation(len(latents))[:STATES]]


def flexibility(run: Run, latents: Float[np.ndarray, "s k"]) -> StateSpread:
    """Mean and standard deviation of the density over states."""
    return state_spread(run.latent_volumes(latents))


def state_uncertainty(run: Run, particle: int, seed: int = 0) -> Float[np.ndarray, "d d d"]:
    """Standard deviation [z, y, x] of the density of a particle's state, in units of the density.

    Two sources add in squares: the latent of a particle is known up to its posterior covariance (the spread of
    densities at draws from it), and the maps that everything rests on are noisy (half maps). What both miss is a
    network that is wrong with confidence; only independent runs can show that.
    """
    rng = np.random.default_rng(seed)
    mean = np.repeat(run.latents[particle][None], DRAWS, axis=0)
    covariance = np.repeat(run.latents_covariance[particle][None], DRAWS, axis=0)
    spread = state_spread(run.latent_volumes(draw_latents(mean, covariance, rng)))
    noise = noise_deviation(run.half_maps, run.pixel_size_angstrom)
    return np.sqrt(spread.deviation**2 + noise**2)


def moving_regions(spread: StateSpread) -> list[Region]:
    """Connected regions that move, the one with most flexibility first; none where nothing moves."""
    deviation = spread.deviation
    largest = float(deviation.max())
    if largest <= LEAST_CHANGE * spread.largest_value:
        return []
    parts, count = label(deviation > MOVING_FRACTION * largest, structure=np.ones((3, 3, 3)))
    sums = np.bincount(parts.ravel(), weights=deviation.ravel(), minlength=count + 1)[1:]
    shares = sums / sums.sum()
    order = [int(i) for i in np.argsort(-shares, kind="stable")[:MOST_REGIONS] if shares[i] >= SMALLEST_REGION]
    return [Region(binary_dilation(parts == i + 1), float(shares[i])) for i in order]


def score_against_truth(maps: dict[str, np.ndarray], truth: GroundTruth) -> dict[str, dict[str, float]] | None:
    """ROC AUC of maps [z, y, x] as detectors of the true moving region, in the whole box and within the molecule.

    The region is the core of the moving mask of the assessment: standard deviation over the true states above a tenth
    of its maximum. Within the molecule's mask the test is harder: empty corners are easy to get right. None if the true
    states do not move.
    """
    from sklearn.metrics import roc_auc_score

    pixel = truth.pixel_size_angstrom
    spread = state_spread(truth.states())
    true = spread.deviation
    if true.max() <= 1e-6 * spread.largest_value:
        return None
    moving, molecule = true > MOVING_MASK_FRACTION * true.max(), molecule_mask(truth.states(), pixel) > 0.5
    scores = {}
    for name, values in maps.items():
        box, inside = (
            float(roc_auc_score(t, v))
            for t, v in ((moving.ravel(), values.ravel()), (moving[molecule], values[molecule]))
        )
        scores[name] = {"box": box, "molecule": inside}
    return scores

r"""Whether a map from nothing is one: images that had no part in it say.

The log likelihood of an image under a map, whatever its pose, is the mean over views and shifts,
log 1 / (R T) sum_(r, d) exp l(r, d). Noise makes maps too, and so do round particles; but images held out are
then no likelier under the map than under no density, or under the map's average over all rotations.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.poses.matching import BandImages, score_tiles, shift_grid, views
from cryoformer.poses.stochastic_em import LEAST_VIEWS, shift_steps, view_count

# Standard errors by which the likelihood has to exceed that of no structure.
LEAST_Z = 4.0
# And the least that tells views apart: less, and poses would be drawn by lot.
LEAST_GAIN = 0.5


@dataclass(frozen=True)
class StructureTest:
    """Held-out log likelihood per image: of the map over no structure, with its standard error.

    ``log_likelihood`` is that over no density at all.
    """

    log_likelihood: float
    gain: float
    error: float

    @property
    def found(self) -> bool:
        return self.gain > max(LEAST_Z * self.error, LEAST_GAIN)

    @property
    def sentence(self) -> str:
        """What that means."""
        figures = f"{self.gain:.2f} +- {self.error:.2f} in log likelihood an image, of images held out"
        if self.found:
            return f"the particles have structure: their map is better than a round one by {figures}"
        return f"no structure: a map of these images explains others no better than a round one does ({figures})"


def structure_test(
    held_out: BandImages, volume: Float[Tensor, "d d d"], shells: float, reach_angstrom: float, seed: int
) -> StructureTest:
    """Images that ``volume`` was not made of, under it and under its average over all rotations."""
    band = held_out.band(shells)
    grid = torch.from_numpy(uniform_rotations(max(LEAST_VIEWS, view_count(shells)), seed)).float()
    shifts = shift_grid(*shift_steps(held_out.side_angstrom, reach_angstrom, shells))
    of_map = marginal_likelihood(band, volume, grid, shifts)
    # Of a round map all views are alike, whatever is known of them.
    of_round = marginal_likelihood(replace(band, cone=None), rotation_average(volume), grid[:1], shifts).clamp_min(0)
    more = of_map - of_round
    return StructureTest(float(of_map.mean()), float(more.mean()), float(more.std() / len(more) ** 0.5))


def marginal_likelihood(
    images: BandImages, volume: Float[Tensor, "d d d"], grid: Float[Tensor, "r 3 3"], shifts: Float[Tensor, "t 2"]
) -> Float[Tensor, " n"]:
    """Log likelihood of every image over no density, poses averaged over a grid."""
    slices, found = views(volume, images.plane, grid), []
    for tile in score_tiles(images, slices, grid, shifts):
        found.append(tile.scores.flatten(1).logsumexp(dim=1))
    # A prior on rotations is none of unit mass: views that it forbids do not count.
    views_log = math.log(len(grid)) if images.cone is None else images.cone.log_prior(grid).logsumexp(dim=1)
    return torch.cat(found) - views_log - math.log(len(shifts))


def rotation_average(volume: Float[Tensor, "d d d"]) -> Float[Tensor, "d d d"]:
    """The average over all rotations about the centre of mass."""
    box = volume.shape[-1]
    points = grid_points(box, 1.0)
    mass = volume.reshape(-1).clamp_min(0)
    centre = (mass[:, None] * points).sum(dim=0) / mass.sum().clamp_min(1e-12)
    radius = (points - centre).norm(dim=1)
    low, size = radius.floor().long(), box * 2
    share = radius - low
    total, count = torch.zeros(size), torch.zeros(size)
    for place, weight in ((low, 1 - share), (low + 1, share)):
        total.index_add_(0, place, weight * volume.reshape(-1))
        count.index_add_(0, place, weight)
    profile = total / count.clamp_min(1e-6)
    return torch.lerp(profile[low], profile[low + 1], share).reshape(box, box, box)

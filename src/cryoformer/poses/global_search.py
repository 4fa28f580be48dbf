r"""All poses of all images against a map: an even grid first, the best few places of it by Gauss-Newton after.

The grid compares a narrow band, where its steps are small against what the band can tell. Of every image the views
with the highest scores are kept that lie apart from each other: its modes. Each is then followed uphill at growing
bands (:mod:`.posterior`), and those that fall far behind the best are dropped.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import roma
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryoformer.images.fourier_images import FourierImages, Images
from cryoformer.imaging.fourier import shift_phases
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.poses.cone import Cone
from cryoformer.poses.matching import BandImages, score_tiles, shift_grid, views
from cryoformer.poses.posterior import PosePrior, SlopedDensity, pose_steps, turned
from cryoformer.poses.stochastic_em import shift_steps, view_count
from cryoformer.poses.symmetry import in_asymmetric_unit

VIEWS = 4608  # at least: some 15 degrees apart
SEARCH_BATCH = 1024
SHIFT_STEP = 0.3  # of the finest detail
MODES = 8
# Candidates of a grid that modes are chosen from, and how far apart modes are.
CANDIDATES = 48
APART_DEGREES = 22.0
# A mode whose log likelihood is so far behind the best has no say.
FAR_BEHIND = 12.0
# And one whose log prior is so far behind that of another.
FAR = 8.0
# On the grid a mode may be farther behind: its step costs as much.
FIRST_BEHIND = 15.0
# Box, in pixels, at which modes are followed uphill, at least.
CLIMB_BOX = 20


@dataclass(frozen=True)
class PoseModes:
    """m possible poses of each of n images.

    Attributes:
        rotations: R, each.
        shifts: in Angstrom, relative to where the images are.
        log_likelihood: minus infinity where a mode is not there.
    """

    rotations: Float[Tensor, "n m 3 3"]
    shifts: Float[Tensor, "n m 2"]
    log_likelihood: Float[Tensor, "n m"]

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    def weights(self) -> Float[Tensor, "n m"]:
        """How probable each mode of an image is."""
        return torch.softmax(self.log_likelihood, dim=1)

    def best(self) -> tuple[Float[Tensor, "n 3 3"], Float[Tensor, "n 2"]]:
        """Rotation and shift of every image's most probable mode."""
        place = self.log_likelihood.argmax(dim=1)
        rows = torch.arange(len(self))
        return self.rotations[rows, place], self.shifts[rows, place]

    def taken(self, rows: Int[Tensor, " b"]) -> "PoseModes":
        """Those of these images."""
        return PoseModes(self.rotations[rows], self.shifts[rows], self.log_likelihood[rows])

    def joined(self, other: "PoseModes") -> "PoseModes":
        """These and others of the same images."""
        return PoseModes(
            torch.cat([self.rotations, other.rotations], dim=1),
            torch.cat([self.shifts, other.shifts], dim=1),
            torch.cat([self.log_likelihood, other.log_likelihood], dim=1),
        )

    def present(self) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
        """Images and modes that are there."""
        image, mode = (self.log_likelihood > -torch.inf).nonzero().T
        return image, mode

    def within(self, cone: Cone) -> "PoseModes":
        """Without modes far outside of a cone, but for the best one where all are."""
        prior = cone.log_prior_of_modes(self.rotations)
        worst = prior < prior.masked_fill(self.log_likelihood == -torch.inf, -torch.inf).amax(dim=1, keepdim=True) - FAR
        return replace(self, log_likelihood=self.log_likelihood.masked_fill(worst, -torch.inf))

    def trimmed(self, behind: float = FAR_BEHIND) -> "PoseModes":
        """Without modes that are far behind the best, those left packed to the front."""
        score = self.log_likelihood
        score = score.masked_fill(score < score.amax(dim=1, keepdim=True) - behind, -torch.inf)
        score, order = score.sort(dim=1, descending=True)
        most = int((score > -torch.inf).sum(dim=1).max())
        rows, order = torch.arange(len(self))[:, None], order[:, :most]
        return PoseModes(self.rotations[rows, order], self.shifts[rows, order], score[:, :most])


def search(
    images: Images,
    volume: Float[Tensor, "d d d"],
    shells: float,
    reach_angstrom: float,
    seed: int,
    group: Float[Tensor, "g 3 3"],
    progress: Callable[[int], None] = lambda done: None,
) -> PoseModes:
    """The best places of a grid over all rotations and shifts for every image, apart from each other.

    Args:
        images: not shifted.
        volume: [z, y, x], of the box of the images.
        shells: the band that is compared.
        group: rotations that lay the map on itself; one of all views that are alike by them is searched.
    """
    grid = torch.from_numpy(uniform_rotations(max(VIEWS, view_count(shells)), seed)).float()
    grid = grid[in_asymmetric_unit(grid, group)]
    shifts = shift_grid(*shift_steps(images.box * images.pixel_size_angstrom, reach_angstrom, shells, SHIFT_STEP))
    found, slices = list[PoseModes](), torch.empty(0)
    for rows, some in images.batches(images.every(SEARCH_BATCH)):
        band = BandImages.of(some).band(shells)
        slices = slices if len(slices) else views(volume, band.plane, grid)
        found.append(_search(band, slices, grid, shifts))
        progress(int(rows[-1]) + 1)
    parts = (torch.cat([getattr(each, name) for each in found]) for name in ("rotations", "shifts", "log_likelihood"))
    return PoseModes(*parts)


def _search(
    images: BandImages, slices: Complex[Tensor, "r m"], grid: Float[Tensor, "r 3 3"], shifts: Float[Tensor, "t 2"]
) -> PoseModes:
    n, count = len(images), min(CANDIDATES, len(grid))
    place, score = torch.empty(n, MODES, dtype=torch.long), torch.empty(n, MODES)
    for tile in score_tiles(images, slices, grid, shifts):
        by_view, shift = tile.scores.max(dim=1)
        values, view = by_view.topk(count, dim=1)
        chosen, best = _apart(grid[view], values)
        view = view.gather(1, chosen)
        here = slice(tile.start, tile.start + len(view))
        place[here], score[here] = shift.gather(1, view) * len(grid) + view, best
    return PoseModes(grid[place % len(grid)], shifts[place // len(grid)], score)


def _apart(
    rotations: Float[Tensor, "b c 3 3"], scores: Float[Tensor, "b c"]
) -> tuple[Int[Tensor, "b m"], Float[Tensor, "b m"]]:
    """The best of some candidates, then the best of those that lie apart from it, and so on; and their scores."""
    least = 1 + 2 * math.cos(math.radians(APART_DEGREES))
    flat, left = rotations.flatten(2), scores.clone()
    rows = torch.arange(len(scores))
    places, found = [], []
    for _ in range(MODES):
        value, place = left.max(dim=1)
        trace = torch.einsum("bci,bi->bc", flat, flat[rows, place])
        left = left.masked_fill(trace > least, -torch.inf)
        places.append(place)
        found.append(value)
    return torch.stack(places, dim=1), torch.stack(found, dim=1)


def climbing_box(box: int, shells: float) -> int:
    """The box at which modes that were found in this band are followed uphill."""
    return min(max(CLIMB_BOX, 2 * math.ceil(shells) + 2), box)


def climb(
    images: Images,
    density: SlopedDensity,
    modes: PoseModes,
    prior: PosePrior,
    steps: int,
    progress: Callable[[int], None] = lambda done: None,
) -> PoseModes:
    """Every mode after Gauss-Newton steps, with its log likelihood at the band of ``images`` (which are not shifted).

    ``prior`` holds a mode near where it was: how far the search before may have been off.
    """
    image, mode = modes.present()
    rotations, shifts = modes.rotations.clone(), modes.shifts.clone()
    score = torch.full_like(modes.log_likelihood, -torch.inf)
    for some in torch.arange(len(image)).split(images.batch):
        i, m = image[some], mode[some]
        batch = at(images.take(i), rotations[i, m], shifts[i, m])
        start = torch.zeros(len(some), 5 + density.components)
        step = pose_steps(batch, density, start, prior, steps)
        rotations[i, m] = roma.special_procrustes(turned(rotations[i, m], step.mean[:, :3]))
        shifts[i, m] += step.mean[:, 3:5]
        score[i, m] = step.log_posterior
        progress(int(i[-1]) + 1)
    return replace(modes, rotations=rotations, shifts=shifts, log_likelihood=score)


def at(images: FourierImages, rotations: Float[Tensor, "b 3 3"], shifts: Float[Tensor, "b 2"]) -> FourierImages:
    """Images that are not shifted at these poses."""
    back = shift_phases(-images.scale[:, None] * shifts, images.box, images.pixel_size_angstrom)
    return replace(images, rotations=rotations, coefficients=images.coefficients * back)

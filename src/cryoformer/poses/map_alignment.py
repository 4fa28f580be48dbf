r"""Two maps laid on one another, either hand, and the rotations that nearly lay a map on itself.

Rotations of an even set are tried first, with the centres of mass on one another; the best few are then refined,
with their translations, by the correlation of the densities at the points of a ball.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.rotations import uniform_rotations

VIEWS = 4608  # some 15 degrees apart
REFINED = 4
# Rotations that differ by less are taken for one.
APART_DEGREES = 25.0
MIRROR = np.diag([1.0, 1.0, -1.0])


@dataclass(frozen=True)
class Alignment:
    """V(x) is like W(M R x + s): R [3, 3]; M mirrors z where ``mirrored``; s (x, y, z) in pixels.

    ``correlation`` is that of the two densities inside a ball.
    """

    rotation: Float[np.ndarray, "3 3"]
    shift: Float[np.ndarray, " 3"]
    mirrored: bool
    correlation: float


class MapComparison:
    """Correlations of a map with another one, turned and shifted.

    Both [z, y, x] of the same box, and so smooth that linear interpolation does.
    """

    def __init__(self, reference: Float[Tensor, "d d d"], other: Float[Tensor, "d d d"], radius: float = 0.42) -> None:
        box = reference.shape[-1]
        self.box, self.other = box, other[None, None]
        points = grid_points(box, 1.0)
        coarse = (points % max(1, round(box / 16)) == 0).all(dim=1) & (points.norm(dim=1) < radius * box)
        centre, self.other_centre = (_centre_of_mass(each, radius) for each in (reference, other))
        self.points = points[coarse]
        self.centre = centre.numpy().astype(np.float64)
        values = _sample(reference[None, None], self.points[None] + centre)[0]
        self.values = (values - values.mean()) / (values - values.mean()).norm()

    def correlations(self, rotations: Float[Tensor, "r 3 3"], shifts: Float[Tensor, "r 3"]) -> Float[Tensor, " r"]:
        """Of the reference about its centre of mass and the other map at R x + s from its own."""
        found = []
        for some in torch.arange(len(rotations)).split(256):
            places = torch.einsum("rij,pj->rpi", rotations[some], self.points) + shifts[some, None] + self.other_centre
            values = _sample(self.other, places)
            values = values - values.mean(dim=1, keepdim=True)
            found.append((values @ self.values) / values.norm(dim=1).clamp_min(1e-12))
        return torch.cat(found)

    def refined(self, rotation: Float[np.ndarray, "3 3"]) -> tuple[Float[np.ndarray, "3 3"], np.ndarray, float]:
        """The best rotation and shift near by, and their correlation."""

        def loss(x: np.ndarray) -> float:
            turned = Rotation.from_rotvec(x[:3] * 0.1).as_matrix() @ rotation
            return -float(self.correlations(torch.tensor(turned[None]).float(), torch.tensor(x[None, 3:]).float())[0])

        found = minimize(loss, np.zeros(6), method="Powell", options={"xtol": 1e-2, "ftol": 1e-4, "maxiter": 4})
        return Rotation.from_rotvec(found.x[:3] * 0.1).as_matrix() @ rotation, found.x[3:], -float(found.fun)

    def whole_shift(self, rotation: Float[np.ndarray, "3 3"], shift: Float[np.ndarray, " 3"]) -> np.ndarray:
        """The shift about the centres of the boxes that one about the centres of mass means."""
        return shift + self.other_centre.numpy() - rotation @ self.centre


def align_maps(reference: Float[Tensor, "d d d"], other: Float[Tensor, "d d d"], seed: int = 0) -> Alignment:
    """How ``other`` is to be turned, mirrored and shifted to lie on ``reference``."""
    best: Alignment | None = None
    for mirrored in (False, True):
        # z -> -z about the centre of the box, which is voxel D // 2.
        hand = torch.roll(other.flip(0), 1 - other.shape[-1] % 2, 0) if mirrored else other
        comparison = MapComparison(reference, hand)
        for rotation in best_rotations(comparison, seed)[:REFINED]:
            found, shift, correlation = comparison.refined(rotation)
            if best is None or correlation > best.correlation:
                whole = comparison.whole_shift(found, shift)
                best = Alignment(found, whole * ((1, 1, -1) if mirrored else (1, 1, 1)), mirrored, correlation)
    assert best is not None
    return best


def self_alignments(
    volume: Float[Tensor, "d d d"], least: float, most: int, known: Float[np.ndarray, "g 3 3"], seed: int = 0
) -> list[Alignment]:
    """How a map is to be turned to lie on itself with a correlation of at least ``least``, best first.

    Rotations near those of ``known``, identity at least, are left out.
    """
    comparison = MapComparison(volume, volume)
    found: list[Alignment] = []
    for rotation in best_rotations(comparison, seed, least - 0.15)[: 3 * (most + len(known))]:
        turned, shift, correlation = comparison.refined(rotation)
        apart = [*known, *(each.rotation for each in found)]
        if correlation >= least and min(_degrees(turned, each) for each in apart) > APART_DEGREES:
            found.append(Alignment(turned, comparison.whole_shift(turned, shift), False, correlation))
    return sorted(found, key=lambda each: -each.correlation)[:most]


def best_rotations(comparison: MapComparison, seed: int, least: float = -1.0) -> list[Float[np.ndarray, "3 3"]]:
    """Peaks of the correlation over all rotations, best first; identity's neighbourhood counts as one."""
    grid = uniform_rotations(VIEWS, seed)
    scores = comparison.correlations(torch.tensor(grid).float(), torch.zeros(VIEWS, 3)).numpy()
    peaks: list[np.ndarray] = []
    left = scores >= least
    while left.any() and len(peaks) < 60:
        place = int(np.where(left, scores, -2).argmax())
        peaks.append(grid[place])
        left &= np.degrees(Rotation.from_matrix(grid @ grid[place].T).magnitude()) > APART_DEGREES
    return peaks


def _degrees(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.degrees(Rotation.from_matrix(one @ other.T).magnitude()))


def _centre_of_mass(volume: Float[Tensor, "d d d"], radius: float) -> Float[Tensor, " 3"]:
    box = volume.shape[-1]
    points = grid_points(box, 1.0)
    inside = (points.norm(dim=1) < radius * box).float()
    mass = volume.reshape(-1).clamp_min(0) * inside
    return (mass[:, None] * points).sum(dim=0) / mass.sum().clamp_min(1e-12)


def _sample(volume: Float[Tensor, "1 1 d d d"], places: Float[Tensor, "r p 3"]) -> Float[Tensor, "r p"]:
    """Density at (x, y, z) pixels from voxel D // 2."""
    box = volume.shape[-1]
    scaled = (places + box // 2) * (2 / (box - 1)) - 1
    sampled = torch.nn.functional.grid_sample(volume, scaled[None, :, :, None], align_corners=True)
    return sampled[0, 0, :, :, 0]

"""From where a motion is seen best, and how much each voxel moves.

The moving part's displacement is the vector from where density is lost to where it is gained between the first and the
last state. A good viewer looks across it. Among the directions across it, the one is taken from which the projections
of the two end states differ most and still density hides least of the motion. The moving part is turned up.
"""

import numpy as np
from jaxtyping import Float

from cryoformer.assess.masks import density_threshold
from cryoformer.explore.render import Camera, project

DIRECTIONS = 24
CONTOUR_FRACTION = 0.4
"""Surfaces are drawn at this fraction of the strong density: about half-way between solvent and protein."""
FULL_COLOUR = 0.5
"""A voxel has the full colour of motion when its standard deviation over the states is this fraction of the contour."""


def contour_level(volume: Float[np.ndarray, "d d d"]) -> float:
    """Density level that shows the molecule's surface (see :func:`cryoformer.assess.masks.density_threshold`)."""
    return density_threshold(volume, CONTOUR_FRACTION)


def matching_level(volume: Float[np.ndarray, "d d d"], voxels: int) -> float:
    """The level that as many voxels exceed: surfaces that enclose the same volume can be compared by eye."""
    voxels = min(max(voxels, 1), volume.size - 1)
    return float(np.partition(volume, volume.size - voxels - 1, axis=None)[volume.size - voxels - 1])


def mobility(deviation: Float[np.ndarray, "d d d"], level: float) -> Float[np.ndarray, "d d d"]:
    """From 0 (still) to 1: standard deviation over the states relative to the contour level.

    Relative to the contour, not to its own maximum, so a map that does not move stays grey.
    """
    return np.asarray((deviation / (FULL_COLOUR * max(level, 1e-12))).clip(0.0, 1.0))


def choose_camera(
    states: list[Float[np.ndarray, "d d d"]], deviation: Float[np.ndarray, "d d d"], level: float
) -> Camera:
    """A camera that shows the whole molecule and the motion from the first to the last state."""
    union = np.max(states, axis=0) > level
    points = np.argwhere(union if union.any() else np.ones_like(union))[:, ::-1].astype(np.float64)
    centre = (points.min(axis=0) + points.max(axis=0)) / 2.0
    reach = float(np.linalg.norm(points - centre, axis=1).max()) + 1.5
    displacement = _displacement(states[-1] - states[0])
    moving = _weighted_mean(deviation**2) - points.mean(axis=0)
    best: tuple[float, np.ndarray] | None = None
    for towards in _directions_across(displacement):
        view = _frame(towards, moving)
        camera = Camera(view, centre, reach, reach)
        first, last = (project(np.minimum(state, 2.0 * level), camera, 48) for state in (states[0], states[-1]))
        seen = _seen_motion(deviation, union, camera)
        score = float(np.abs(first - last).sum()) * (0.2 + seen)
        if best is None or score > best[0]:
            best = (score, view)
    assert best is not None
    # The picture needs to be no wider than the molecule is from there.
    flat = (points - centre) @ best[1][:2].T
    middle = (flat.min(axis=0) + flat.max(axis=0)) / 2.0
    half_width = float((flat.max(axis=0) - flat.min(axis=0)).max()) / 2.0 + 2.5
    return Camera(best[1], centre + middle @ best[1][:2], half_width, reach)


def _displacement(difference: np.ndarray) -> Float[np.ndarray, "3"]:
    """Unit vector (x, y, z) from lost to gained density; the x axis where nothing changes."""
    vector = _weighted_mean(np.maximum(difference, 0.0)) - _weighted_mean(np.maximum(-difference, 0.0))
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length if length > 1e-6 else np.array([1.0, 0.0, 0.0]))


def _weighted_mean(weights: np.ndarray) -> Float[np.ndarray, "3"]:
    """Centre of mass as voxel indices (x, y, z); the box centre for no mass."""
    total = float(weights.sum())
    if total <= 0:
        return np.array(weights.shape[::-1], dtype=np.float64) // 2
    sums = [weights.sum(axis=axes) for axes in ((0, 1), (0, 2), (1, 2))]
    return np.array([float((line * np.arange(len(line))).sum()) / total for line in sums])


def _directions_across(axis: np.ndarray) -> list[np.ndarray]:
    """Unit vectors perpendicular to the axis, evenly spaced."""
    helper = np.eye(3)[int(np.abs(axis).argmin())]
    first = np.cross(axis, helper)
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)
    angles = 2.0 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    return [np.cos(angle) * first + np.sin(angle) * second for angle in angles]


def _frame(towards: np.ndarray, upwards: np.ndarray) -> Float[np.ndarray, "3 3"]:
    """Rows right, up, towards the viewer; up as near to ``upwards`` as can be."""
    up = upwards - (upwards @ towards) * towards
    if np.linalg.norm(up) < 1e-3:
        up = np.cross(towards, np.eye(3)[int(np.abs(towards).argmin())])
    up = up / np.linalg.norm(up)
    return np.stack([np.cross(up, towards), up, towards])


def _seen_motion(deviation: np.ndarray, union: np.ndarray, camera: Camera) -> float:
    """Share of the motion that is not behind still density, by the depths of their centres of mass per pixel."""
    towards = camera.view[2]
    axes = [np.arange(size, dtype=np.float64) for size in deviation.shape]
    height = axes[0][:, None, None] * towards[2] + axes[1][None, :, None] * towards[1] + axes[2] * towards[0]
    moving = deviation > 0.3 * max(float(deviation.max()), 1e-12)
    still = union & ~moving
    top_of_motion = float(height[moving].mean()) if moving.any() else 0.0
    before = still & (height > top_of_motion)
    shadow = project(before.astype(np.float32), camera, 48) > 0.5
    motion = project(np.where(moving, deviation, 0.0), camera, 48)
    return float(motion[~shadow].sum() / max(motion.sum(), 1e-12))

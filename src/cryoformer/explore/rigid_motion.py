r"""How a part of a density moves between states: the rotation and shift that carry it, found without knowing the part.

Between states A and B a point x of the region either stays or goes to T(x) = R (x - c) + c + s. Alternate

    T: least squares of  w(x) (B(T x) - A(x))^2  over rotation and shift;
    w(x) = A(x) e_stay / (e_stay + e_move),   e_stay = G * (B(x) - A(x))^2,   e_move = G * (B(T x) - A(x))^2

(G: a Gaussian window), starting from the density that A loses: what is explained better by the motion than by standing
still belongs to the moving part. Centres of mass of a thresholded difference do not do: where the part overlaps itself
before and after, the difference cancels, and what is left lies at the far ends.

Intermediate states, where given, are followed one after the other, each fit starting at the last one. All of it is
done forwards and backwards, and the two answers are averaged; half of their disagreement is a systematic uncertainty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

ROUNDS = 6
CONVERGED = 2e-3
"""Radians and voxels."""
EFFORT = {"max_nfev": 120, "ftol": 1e-5, "xtol": 1e-4}
STIFFNESS = 0.01
"""A round part may turn as it likes without any change, and a lost one go anywhere; so turning by a radian, or going as
far as the box is wide, costs as much as errors of this fraction of the density: far less than a real motion gains."""
WINDOW_VOXELS = 1.5
FLOOR = 1e-3
"""Errors below this share of the squared maximum density count as nothing."""
LEAST_EXPLAINED = 0.7
"""Below, a region does not move as one: two domains of adenylate kinase that touch reach 0.6, one of the spike 0.93."""
LEAST_BALANCE = 0.5


@dataclass(frozen=True)
class RigidMotion:
    """The motion of a part from the first state to another; vectors are (x, y, z) in Angstrom."""

    centroid_angstrom: Float[np.ndarray, "3"]
    """Centre of mass of the part in the first state, from the centre of the box."""
    displacement_angstrom: Float[np.ndarray, "3"]
    """Where its centre of mass goes from there."""
    rotation_vector: Float[np.ndarray, "3"]
    """Axis times angle (radians)."""
    disagreement_angstrom: float
    """Half of the difference between the lengths found forwards and backwards."""
    disagreement_degrees: float
    """The same for the angles."""
    explained: float
    """Share of the part's change (squared) that this motion accounts for."""
    balance: float
    """Mass lost over mass gained within the region, or its inverse, whichever is below 1: a motion keeps mass, density
    that appears or disappears does not."""

    @property
    def is_rigid(self) -> bool:
        """Whether this describes the change; otherwise density comes and goes, or bends."""
        return self.explained >= LEAST_EXPLAINED and self.balance >= LEAST_BALANCE

    @property
    def distance_angstrom(self) -> float:
        """Length of the displacement."""
        return float(np.linalg.norm(self.displacement_angstrom))

    @property
    def rotation_degrees(self) -> float:
        """Angle of the rotation."""
        return float(np.degrees(np.linalg.norm(self.rotation_vector)))


@dataclass
class _Fit:
    """One direction's answer for one state: voxels as lengths."""

    rotation: np.ndarray
    centroid: np.ndarray
    displacement: np.ndarray
    explained: float


def rigid_motions(
    states: Sequence[Float[np.ndarray, "d d d"]],
    region: Bool[np.ndarray, "d d d"],
    pixel_size_angstrom: float,
    start: RigidMotion | None = None,
) -> list[RigidMotion]:
    """Motion of the part inside ``region`` from the first state to each later one.

    Args:
        states: densities [z, y, x] along a motion, at least two; solvent about 0.
        region: voxels that the part may leave or enter, some neighbours included.
        pixel_size_angstrom: of the densities.
        start: where to begin the search for the first later state; standing still by default, which is good for steps
            shorter than the part itself.
    """
    beginning = None
    if start is not None:
        beginning = np.concatenate([start.rotation_vector, start.displacement_angstrom / pixel_size_angstrom])
    forwards = _follow(states, region, beginning)
    motions = []
    for number, there in enumerate(forwards, start=1):
        back = _follow([states[number], states[0]], region, _inverse(there))[-1]
        difference = states[number] - states[0]
        gained, lost = (float(np.maximum(sign * difference, 0.0)[region].sum()) for sign in (1.0, -1.0))
        lengths, angles = ([float(np.linalg.norm(vector)) for vector in pair] for pair in _pairs(there, back))
        centre = np.array(region.shape[::-1]) // 2
        motions.append(
            RigidMotion(
                centroid_angstrom=(there.centroid - centre) * pixel_size_angstrom,
                displacement_angstrom=(there.displacement - back.displacement) / 2.0 * pixel_size_angstrom,
                rotation_vector=(there.rotation - back.rotation) / 2.0,
                disagreement_angstrom=abs(lengths[0] - lengths[1]) / 2.0 * pixel_size_angstrom,
                disagreement_degrees=float(np.degrees(abs(angles[0] - angles[1]) / 2.0)),
                explained=min(there.explained, back.explained),
                balance=min(gained, lost) / max(gained, lost, 1e-300),
            )
        )
    return motions


def _pairs(there: _Fit, back: _Fit) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(there.displacement, back.displacement), (there.rotation, back.rotation)]


def _inverse(fit: _Fit) -> np.ndarray:
    """Rotation vector and displacement of the way back, as a start."""
    return np.concatenate([-fit.rotation, -fit.displacement])


def _follow(
    states: Sequence[np.ndarray], region: Bool[np.ndarray, "d d d"], start: np.ndarray | None = None
) -> list[_Fit]:
    first = np.asarray(states[0], dtype=np.float64)
    inside = np.nonzero(region)
    points = np.stack(inside[::-1], axis=1).astype(np.float64)
    here = first[inside]
    mass = here.clip(0.0)
    weights = mass * (here - np.asarray(states[-1], dtype=np.float64)[inside]).clip(0.0)
    centre = _mean(points, weights)
    motion = np.zeros(6) if start is None else start
    floor = FLOOR * float(here.max()) ** 2
    window = gaussian_filter(region.astype(np.float64), WINDOW_VOXELS)[inside]
    fits = []
    for state in states[1:]:
        other = np.asarray(state, dtype=np.float64)
        stay = _windowed((other[inside] - here) ** 2, inside, region.shape) / window
        for _ in range(ROUNDS):
            before, motion = motion, _least_squares(points, here, weights, other, centre, motion)
            moved = _moved(points, centre, motion)
            error = (_values(other, moved) - here) ** 2
            weights = mass * stay / (stay + _windowed(error, inside, region.shape) / window + floor)
            if np.abs(motion - before).max() < CONVERGED:
                break
        own = _mean(points, weights)
        change = float((weights * (other[inside] - here) ** 2).sum())
        explained = 1.0 - float((weights * error).sum()) / max(change, 1e-300)
        fits.append(_Fit(motion[:3], own, _moved(own[None], centre, motion)[0] - own, explained))
    return fits


def _least_squares(
    points: np.ndarray, here: np.ndarray, weights: np.ndarray, other: np.ndarray, centre: np.ndarray, start: np.ndarray
) -> np.ndarray:
    counted = weights > 1e-3 * weights.max()
    root, some, values = np.sqrt(weights[counted]), points[counted], here[counted]
    if counted.sum() < 6:
        return start

    reluctance = STIFFNESS * float(np.linalg.norm(root * values))

    def residuals(motion: np.ndarray) -> np.ndarray:
        errors = root * (_values(other, _moved(some, centre, motion)) - values)
        return np.concatenate([errors, reluctance * motion[:3], reluctance / other.shape[0] * motion[3:]])

    # A tenth of a radian turns the rim of a part by about a voxel.
    scale = np.array([0.1, 0.1, 0.1, 1.0, 1.0, 1.0])
    return np.asarray(least_squares(residuals, start, method="lm", x_scale=scale, **EFFORT).x)


def _moved(points: np.ndarray, centre: np.ndarray, motion: np.ndarray) -> np.ndarray:
    return np.asarray(Rotation.from_rotvec(motion[:3]).apply(points - centre) + centre + motion[3:])


def _values(volume: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(map_coordinates(volume, points[:, ::-1].T, order=1, mode="nearest"))


def _windowed(values: np.ndarray, inside: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    spread = np.zeros(shape)
    spread[inside] = values
    return np.asarray(gaussian_filter(spread, WINDOW_VOXELS)[inside])


def _mean(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    if weights.sum() <= 0:
        return points.mean(axis=0)
    return np.asarray(weights @ points / weights.sum())

"""Trajectories to play: those that ``analyze`` has written, else the principal components."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from cryoformer.errors import InputError
from cryoformer.explore.latent_space import PrincipalCoordinates

FRAMES = 20
SHOWN = 3
SPREAD = 1.5
"""Width, in frames, of the window over particles whose mean gives the other coordinates."""
PERCENTILES = (2.0, 98.0)


def find_trajectories(folder: Path, principal: PrincipalCoordinates) -> dict[str, Float[np.ndarray, "m k"]]:
    """Latent points by name. Files that do not fit the run's latents are left out."""
    dimensions = len(principal.mean)
    found = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            points = np.load(path, allow_pickle=False)
        except (OSError, ValueError):
            continue
        if points.ndim == 2 and points.shape[1] == dimensions and len(points) > 1 and np.isfinite(points).all():
            found[path.stem] = points.astype(np.float64)
    return found or _components(principal)


def latent_along(points: Float[np.ndarray, "m k"], place: float) -> Float[np.ndarray, " k"]:
    """The latent at a place from 0 (first point) to 1 (last), linear between points.

    Raises:
        InputError: a place outside [0, 1].
    """
    if not 0.0 <= place <= 1.0:
        raise InputError(f"a place of {place} along a trajectory; expected 0 to 1")
    position = place * (len(points) - 1)
    before = min(int(position), len(points) - 2)
    return np.asarray(points[before] + (position - before) * (points[before + 1] - points[before]))


def _components(principal: PrincipalCoordinates) -> dict[str, np.ndarray]:
    """Along each component through the middle of the particles there: a straight line would leave a bent landscape."""
    trajectories = {}
    for axis in range(min(SHOWN, len(principal.explained))):
        first, last = np.percentile(principal.coordinates[:, axis], PERCENTILES).tolist()
        along = np.linspace(first, last, FRAMES)
        width = max(SPREAD * (last - first) / FRAMES, 1e-12)
        coordinates = np.stack([_middle(principal.coordinates, axis, place, width) for place in along])
        coordinates[:, axis] = along
        trajectories[f"component {axis + 1}"] = principal.latents_at(coordinates)
    return trajectories


def _middle(coordinates: np.ndarray, axis: int, place: float, width: float) -> np.ndarray:
    weights = np.exp(-0.5 * ((coordinates[:, axis] - place) / width) ** 2)
    return np.asarray(weights @ coordinates / max(float(weights.sum()), 1e-300))

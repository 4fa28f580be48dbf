"""Trajectories to play: those that ``analyze`` has written, else the principal components."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from cryoformer.assess.latent_space import PrincipalCoordinates
from cryoformer.errors import InputError
from cryoformer.explore.trajectory import component_trajectory

SHOWN = 3


def find_trajectories(
    folder: Path, latents: Float[np.ndarray, "n k"], principal: PrincipalCoordinates
) -> dict[str, Float[np.ndarray, "m k"]]:
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
    if found:
        return found
    axes = range(min(SHOWN, len(principal.explained)))
    return {f"component {axis + 1}": component_trajectory(latents, axis, principal=principal).latents for axis in axes}


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

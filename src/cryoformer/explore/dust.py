"""Specks of noise are not drawn, as viewers do ("hide dust")."""

import numpy as np
from jaxtyping import Float
from scipy.ndimage import label

DUST = 0.02
"""Connected parts with less than this share of the largest part's voxels are dust."""


def without_dust(volume: Float[np.ndarray, "z y x"], level: float) -> Float[np.ndarray, "z y x"]:
    """The volume with dust lowered below the level.

    Values are mirrored at the level rather than cut: a step would make splines overshoot around it.
    """
    parts, count = label(volume > level)
    if count < 2:
        return volume
    sizes = np.bincount(parts.reshape(-1))
    sizes[0] = 0
    speck = sizes < DUST * sizes.max()
    speck[0] = False
    return np.where(speck[parts], 2.0 * level - volume, volume)

"""From where particles are seen: how many in each direction, in cells of equal solid angle."""

import numpy as np
from jaxtyping import Float, Int

ROWS, COLUMNS = 9, 18


def direction_counts(directions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "r c"]:
    """Counts over z (rows, from 1 above to -1 below) and azimuth (columns, from -180 to 180 degrees)."""
    azimuth = np.arctan2(directions[:, 1], directions[:, 0])
    counts, _, _ = np.histogram2d(directions[:, 2], azimuth, bins=(ROWS, COLUMNS), range=((-1.0, 1.0), (-np.pi, np.pi)))
    return counts[::-1]


def compared(directions: Float[np.ndarray, "n 3"], rows: Int[np.ndarray, " m"]) -> dict[str, np.ndarray]:
    """Shares of the selected particles and of all, per cell."""
    chosen, everything = direction_counts(directions[rows]), direction_counts(directions)
    return {"selected": chosen / max(chosen.sum(), 1.0), "all": everything / max(everything.sum(), 1.0)}

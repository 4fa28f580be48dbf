"""Soft masks for comparing volumes: of the whole molecule, and of the region that moves.

A mask is a binary core, grown by some Angstrom, convolved with a ball of cosine profile, (1 + cos(pi r / e)) / 2 for r
below the edge radius e. So it is 1 further than e inside, 0 further than e outside, one half on a flat boundary, and as
smooth as its edge everywhere: a mask made from a distance map has ridges, which leak into the high shells and correlate
there. The convolution keeps the cosine edge at least two voxels wide whatever Angstrom are asked for.

Where the numbers come from is told in docs/metrics.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from scipy.ndimage import distance_transform_edt
from scipy.signal import oaconvolve

from cryoformer.errors import InputError
from cryoformer.imaging.grids import raised_cosine, voxel_radii

MOLECULE_FRACTION = 0.1
"""A voxel belongs to the molecule above this fraction of the volume's strong density (99.9th percentile)."""
MOLECULE_GROW_ANGSTROM = 10.0
"""Room for side chains and for density that a reconstruction blurs outwards."""
MOVING_FRACTION = 0.1
"""A voxel moves where its standard deviation over the states exceeds this fraction of the largest one."""
MOVING_GROW_ANGSTROM = 0.0
"""No growth: at a tenth of the maximum the core already holds what the moving part sweeps, and every Angstrom more
brings in still neighbours, which any consensus map gets right."""
EDGE_ANGSTROM = 10.0
"""Radius of the cosine ball."""


def molecule_mask(
    states: Iterable[Float[np.ndarray, "d d d"]],
    pixel_size_angstrom: float,
    fraction: float = MOLECULE_FRACTION,
    grow_angstrom: float = MOLECULE_GROW_ANGSTROM,
    edge_angstrom: float = EDGE_ANGSTROM,
) -> Float32[np.ndarray, "d d d"]:
    """Soft mask [z, y, x] around the union of the molecule over all states (read once, one at a time).

    Raises:
        InputError: no state holds any density.
    """
    core = None
    for volume in states:
        inside = volume > density_threshold(volume, fraction)
        core = inside if core is None else core | inside
    if core is None or not core.any():
        raise InputError("the states hold no density, so no mask of the molecule can be made; check the volumes")
    return soft_mask(core, pixel_size_angstrom, grow_angstrom, edge_angstrom)


def moving_mask(
    states: Iterable[Float[np.ndarray, "d d d"]],
    pixel_size_angstrom: float,
    fraction: float = MOVING_FRACTION,
    grow_angstrom: float = MOVING_GROW_ANGSTROM,
    edge_angstrom: float = EDGE_ANGSTROM,
) -> Float32[np.ndarray, "d d d"] | None:
    """Soft mask [z, y, x] of the voxels that change between states (read once), or None when nothing does."""
    spread = state_spread(states)
    # Copies that differ by rounding alone do not move.
    if spread.deviation.max() <= 1e-6 * spread.largest_value:
        return None
    core = spread.deviation > fraction * spread.deviation.max()
    return soft_mask(core, pixel_size_angstrom, grow_angstrom, edge_angstrom)


@dataclass(frozen=True)
class StateSpread:
    """Mean and standard deviation of every voxel over the states, and the largest absolute value seen."""

    mean: Float64[np.ndarray, "d d d"]
    deviation: Float64[np.ndarray, "d d d"]
    largest_value: float


def state_spread(states: Iterable[Float[np.ndarray, "d d d"]], weights: Iterable[float] | None = None) -> StateSpread:
    """Mean and standard deviation over volumes [z, y, x], one in memory at a time (Welford's update).

    ``weights``: how much each state counts; None: all the same.

    Raises:
        InputError: there are no states.
    """
    count, largest = 0.0, 0.0
    mean, squares = np.zeros((1, 1, 1)), np.zeros((1, 1, 1))
    for volume, weight in zip(states, repeat(1.0) if weights is None else weights, strict=False):
        if weight == 0:
            continue
        count += weight
        difference = volume.astype(np.float64) - mean
        mean = mean + difference * weight / count
        squares = squares + weight * difference * (volume - mean)
        largest = max(largest, float(np.abs(volume).max()))
    if count == 0:
        raise InputError("there are no states to compare; expected at least one volume")
    # Rounding may leave a little less than nothing where all states agree.
    return StateSpread(mean, np.sqrt(np.maximum(squares, 0.0) / count), largest)


def density_threshold(volume: Float[np.ndarray, "d d d"], fraction: float = MOLECULE_FRACTION) -> float:
    """Density above which a voxel counts as molecule, for clean and for noisy maps.

    ``background + fraction * (strong - background)`` with strong = the 99.9th percentile (single hot voxels do not
    matter) and background = the median outside the inscribed sphere; but never less than four robust standard
    deviations (1.4826 MAD) of that outside, so that the noise of a map is not taken for protein.
    """
    outside = volume[voxel_radii(len(volume)).numpy() > len(volume) // 2]
    background = float(np.median(outside))
    noise = 1.4826 * float(np.median(np.abs(outside - background)))
    strong = float(np.percentile(volume, 99.9))
    return max(background + fraction * (strong - background), background + 4.0 * noise)


def soft_mask(
    core: Bool[np.ndarray, "d d d"], pixel_size_angstrom: float, grow_angstrom: float, edge_angstrom: float
) -> Float32[np.ndarray, "d d d"]:
    """The core grown by ``grow_angstrom`` (Euclidean), with an edge of cosine profile (see the module's text)."""
    if grow_angstrom > 0:
        core = distance_transform_edt(~core) * pixel_size_angstrom <= grow_angstrom
    edge = max(edge_angstrom / pixel_size_angstrom, 2.0)
    reach = int(np.ceil(edge)) - 1
    axis = np.arange(-reach, reach + 1)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2)
    ball = raised_cosine(radius / edge)
    blurred = oaconvolve(core.astype(np.float64), ball / ball.sum(), mode="same")
    # The transform leaves dust of 1e-17 far away: a mask is zero there.
    return np.where(blurred < 1e-6, 0.0, blurred.clip(0.0, 1.0)).astype(np.float32)

"""Masks that a user gives: where density can be, and where motion is looked for.

``mask``   the solvent mask, instead of the one found: density is 0 where it is 0.
``focus``  motion is looked for here alone. Elsewhere density does not vary: it is part of the still density.
``ignore`` no motion is looked for here (a micelle, nucleic acid); its density stays in the model.

Maps of another box are taken where they are of the same size in Angstrom: masks of a refinement fit downsampled images.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.errors import InputError
from cryoformer.files import read_mrc_volume, write_mrc_volume
from cryoformer.imaging.grids import resample_volume
from cryoformer.linear.occupancy import EDGE_ANGSTROM, soft_edge

logger = logging.getLogger(__name__)

# Sizes that differ by less are the same; values may be off by as much; masks must leave as much of the box to move.
SAME_SIZE, SAME_VALUE, LEAST = 0.01, 1e-3, 1e-5
NAMES = ("mask", "focus", "ignore")
# Names of the files that a run keeps, by the option that would give them again.
KEPT_AS = {"mask": "given_mask", "focus": "given_focus"}


@dataclass(frozen=True)
class Regions:
    """Soft masks [z, y, x] from 0 to 1 at one box; None where nothing was given.

    Attributes:
        solvent: what can hold density.
        moving: what can vary.
    """

    solvent: Float[Tensor, "d d d"] | None = None
    moving: Float[Tensor, "d d d"] | None = None

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return self.solvent is not None or self.moving is not None

    def at(self, box: int) -> "Regions":
        """The same at another box of the same size in Angstrom."""
        return Regions(*(None if mask is None else resample_volume(mask, box) for mask in (self.solvent, self.moving)))

    def to(self, device: torch.device | str) -> "Regions":
        """The same on another device."""
        return Regions(*(None if mask is None else mask.to(device) for mask in (self.solvent, self.moving)))

    def varying(self, occupancy: Float[Tensor, "d d d"]) -> Float[Tensor, "d d d"]:
        """What can vary of what is occupied."""
        return occupancy if self.moving is None else occupancy * self.moving


EVERYWHERE = Regions()
"""Nothing given."""


def read_regions(
    mask: Path | None, focus: Path | None, ignore: Path | None, box: int, pixel_size_angstrom: float
) -> Regions:
    """The masks that are given, at the box of the images.

    Raises:
        InputError: a map that cannot be read, does not lie on the images' density, is no mask, or leaves nothing.
    """
    given = {name: path for name, path in zip(NAMES, (mask, focus, ignore), strict=True) if path is not None}
    found = {name: read_mask(path, f"--{name}", box, pixel_size_angstrom) for name, path in given.items()}
    moving = found.get("focus")
    if "ignore" in found:
        moving = (1 - found["ignore"]) * (1 if moving is None else moving)
    regions = Regions(found.get("mask"), moving)
    left = regions.varying(torch.ones(box, box, box) if regions.solvent is None else regions.solvent)
    if float(left.mean()) < LEAST:
        names = " and ".join(f"--{name} {path}" for name, path in given.items())
        raise InputError(f"{names}: together they leave nothing that can move; check that they lie on one another")
    return regions


def read_mask(path: Path, option: str, box: int, pixel_size_angstrom: float) -> Float[Tensor, "d d d"]:
    """One mask at the box of the images, with a soft edge if it has none.

    Raises:
        InputError: it cannot be read, or box, pixel size, origin or values are not those of a mask for these images.
    """
    values, pixel_size = read_mrc_volume(path)
    where = f"{option} {path}"
    expected = f"expected a map of {box} voxels of {pixel_size_angstrom:.4g} A along each axis, as the images have"
    if len(set(values.shape)) > 1:
        raise InputError(f"{where}: has {' x '.join(map(str, values.shape))} voxels; {expected}")
    size = len(values)
    if pixel_size in (0.0, 1.0):
        # What tools write that do not know it.
        if size != box:
            raise InputError(f"{where}: has {size} voxels along each axis and no pixel size in its header; {expected}")
    elif abs(size * pixel_size / (box * pixel_size_angstrom) - 1) > SAME_SIZE:
        raise InputError(f"{where}: has {size} voxels of {pixel_size:.4g} A along each axis; {expected} (or as long)")
    _check_origin(path, where)
    if not np.isfinite(values).all():
        raise InputError(f"{where}: holds values that are not numbers; make the mask anew")
    low, high = float(values.min()), float(values.max())
    if low < -SAME_VALUE or high > 1 + SAME_VALUE:
        raise InputError(
            f"{where}: has values from {low:.3g} to {high:.3g}; expected a mask, from 0 to 1, not a density"
        )
    if high - low < 0.5:
        raise InputError(
            f"{where}: has values from {low:.3g} to {high:.3g}; expected a mask with an inside and an outside"
        )
    values = values.clip(0, 1)
    if np.isin(values, (0, 1)).all():
        logger.info("%s: its edge is sharp; it is given a soft one of %g A", where, EDGE_ANGSTROM)
        values = soft_edge(values > 0.5, box * pixel_size_angstrom / size, 0.0, EDGE_ANGSTROM)
    mask = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    return resample_volume(mask, box)


def _check_origin(path: Path, where: str) -> None:
    with mrcfile.open(path, permissive=True, header_only=True) as mrc:
        header = mrc.header
        origin = [float(header.origin[axis]) for axis in "xyz"]
        start = [int(header[f"n{axis}start"]) for axis in "xyz"]
    if any(origin) or any(start):
        place = f"({', '.join(f'{value:.4g}' for value in origin)}) A" if any(origin) else f"voxel {tuple(start)}"
        raise InputError(
            f"{where}: its origin is {place}, expected 0: it was cropped or moved; resample it on the grid of "
            "volumes/consensus.mrc (in ChimeraX: volume resample #2 onGrid #1) and save it"
        )


def write_regions(folder: Path, regions: Regions, pixel_size_angstrom: float) -> None:
    """As far as there are any; what was to be ignored is taken from the focus."""
    for name, mask in (("mask", regions.solvent), ("focus", regions.moving)):
        if mask is not None:
            write_mrc_volume(folder / f"{KEPT_AS[name]}.mrc", mask.cpu().numpy(), pixel_size_angstrom)


def regions_of_run(folder: Path) -> Regions:
    """What :func:`write_regions` has written."""
    paths = (folder / f"{name}.mrc" for name in KEPT_AS.values())
    return Regions(*(torch.from_numpy(read_mrc_volume(path)[0]) if path.is_file() else None for path in paths))

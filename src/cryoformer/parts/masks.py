"""Where the density of a part may be, in its own frame."""

import torch
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from cryoformer.imaging.grids import grid_points, sample_volume
from cryoformer.parts.start import PartStart

DENSITY_SHARE = 0.15  # of the largest density at the reference
LEAST_MEMBERSHIP = 0.4
# Memberships come from blurred densities. A mask that is too tight leaves the rim of a part to the still density,
# which smears it and holds the motion back.
GROW_ANGSTROM = 10.0
EDGE_VOXELS = 1.0


def part_masks(start: PartStart, box: int, pixel_size_angstrom: float) -> Float[Tensor, "m d d d"]:
    """Soft masks at a box, each in the frame of its part."""
    coarse = pixel_size_angstrom * box / start.box
    held = start.density > DENSITY_SHARE * start.density.max()
    masks = []
    for members, pivot in zip(start.members[1:], start.motions.pivots, strict=True):
        own = grid_points(box, pixel_size_angstrom) + pivot
        core = (held & (members > LEAST_MEMBERSHIP)).float()
        inside = sample_volume(core, own / coarse).view(box, box, box) > 0.5
        away = distance_transform_edt(~inside.numpy()) * pixel_size_angstrom
        masks.append(torch.from_numpy(gaussian_filter((away <= GROW_ANGSTROM).astype("float32"), EDGE_VOXELS)))
    return torch.stack(masks)

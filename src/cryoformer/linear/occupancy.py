"""Which voxels can hold density, and which of them change: the points that are worth decoding.

Occupied: where the low-passed consensus stands out, dilated so that parts that swing out stay inside. Flexible: where
two halves of the images agree that the density varies with the latents. Both come from the data alone.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt, gaussian_filter, label
from torch import Tensor

from cryoformer.imaging.grids import raised_cosine, voxel_radii

LOW_PASS_ANGSTROM = 10.0
DENSITY_SHARE = 0.06  # of the low-passed maximum
SOLVENT_SIGMAS = 4.0
DILATION_ANGSTROM = 10.0
EDGE_ANGSTROM = 7.0


def soft_edge(
    inside: Bool[np.ndarray, "d d d"], pixel_size_angstrom: float, dilation_angstrom: float, edge_angstrom: float
) -> Float[np.ndarray, "d d d"]:
    """1 up to ``dilation`` away from a region, then a cosine edge down to 0."""
    distance = distance_transform_edt(~inside) * pixel_size_angstrom - dilation_angstrom
    return raised_cosine(distance / edge_angstrom).astype(np.float32)


def occupied_region(volume: Float[Tensor, "d d d"], pixel_size_angstrom: float) -> Bool[np.ndarray, "d d d"]:
    """Voxels where a low-passed density stands out from the solvent, without far-away specks."""
    box = volume.shape[-1]
    smooth = gaussian_filter(volume.cpu().numpy(), LOW_PASS_ANGSTROM / pixel_size_angstrom)
    corners = (voxel_radii(box) > 0.9 * box / 2).numpy()
    threshold = max(DENSITY_SHARE * float(smooth.max()), SOLVENT_SIGMAS * float(smooth[corners].std()))
    inside = smooth > threshold
    components, count = label(inside)
    if count > 1:
        sizes = np.bincount(components.reshape(-1))[1:]
        inside = np.isin(components, 1 + np.flatnonzero(sizes > 0.02 * sizes.max()))
    return inside


def occupancy_mask(volume: Float[Tensor, "d d d"], pixel_size_angstrom: float) -> Float[Tensor, "d d d"]:
    """Soft mask of what can ever hold density, from a consensus density at (low) resolution."""
    inside = occupied_region(volume, pixel_size_angstrom)
    mask = soft_edge(inside, pixel_size_angstrom, DILATION_ANGSTROM, EDGE_ANGSTROM)
    return torch.from_numpy(mask).to(volume.device)


def flexible_region(
    first: Float[Tensor, "k d d d"],
    second: Float[Tensor, "k d d d"],
    occupied: Float[Tensor, "d d d"],
    pixel_size_angstrom: float,
) -> Bool[np.ndarray, "d d d"]:
    """Voxels whose density varies over the latents, by the agreement of two halves of the data.

    ``first`` and ``second`` are the basis volumes estimated from each half for the same latents. Their product, summed
    over the basis, is the variance of the density where it varies and scatters about zero where it does not. The
    solvent shows how far it scatters: the threshold is beyond all of the solvent, but never so low as to take
    in what moves a hundredth as much as the most mobile voxel.
    """
    product = (first * second).sum(dim=0).cpu().numpy()
    shared = gaussian_filter(product, 0.5 * LOW_PASS_ANGSTROM / pixel_size_angstrom)
    box = product.shape[-1]
    sphere = (voxel_radii(box) < 0.95 * box / 2).numpy()
    solvent = sphere & (occupied.cpu().numpy() < 0.01)
    scatter = float(np.quantile(np.abs(shared[solvent]), 0.999)) if solvent.any() else 0.0
    region = shared > max(scatter, 0.01 * float(shared.max()), math.ulp(0.0))
    # Where nothing stands out, the one voxel that varies most: a run then finds by itself that nothing moves.
    return region if region.any() else shared == shared.max()

"""Which voxels can hold density, and which of them change: the points that are worth decoding.

Occupied: where the low-passed consensus stands out, dilated so that parts that swing out stay inside. Flexible: where
two halves of the images agree that the density varies with the latents. Both come from the data alone.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_edt, gaussian_filter, label
from torch import Tensor

from cryoformer.images.fourier_images import Images, SliceProjector
from cryoformer.imaging.grids import crop_volume, raised_cosine, voxel_radii
from cryoformer.imaging.slices import SlicePlane
from cryoformer.linear.consensus import Consensus

LOW_PASS_ANGSTROM = 10.0
DENSITY_SHARE = 0.06  # of the low-passed maximum
SOLVENT_SIGMAS = 4.0
DILATION_ANGSTROM = 10.0
EDGE_ANGSTROM = 7.0
# Softer edges that are tried, in pixels; images to try them on; and the share of the gain that a sharper edge may lose.
EDGE_PIXELS = (2, 3, 4, 6, 8)
SAMPLE, LOST = 1000, 0.03


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


def occupancy_mask(
    volume: Float[Tensor, "d d d"], pixel_size_angstrom: float, edge_angstrom: float = EDGE_ANGSTROM
) -> Float[Tensor, "d d d"]:
    """Soft mask of what can ever hold density, from a consensus density at (low) resolution."""
    inside = occupied_region(volume, pixel_size_angstrom)
    mask = soft_edge(inside, pixel_size_angstrom, DILATION_ANGSTROM, edge_angstrom)
    return torch.from_numpy(mask).to(volume.device)


def fitted_occupancy(
    images: Images, consensus: Consensus, rows: Int[Tensor, " m"] | None = None
) -> Float[Tensor, "d d d"]:
    """The mask of what can hold density, at the box of ``images``, with as sharp an edge as they allow.

    A density that is cut off sharply has power at high frequencies. Real images may hold neither signal nor noise
    there, having been low-passed somewhere on their way, and then contradict it: a linear subspace spends its
    components on that. So the edge is the sharpest of some that loses next to nothing of what each half map,
    masked by it, predicts of the images of the other half (of those in ``rows``, if not of all).
    """
    part, device = images.part, images.device
    rows = torch.arange(part.total, device=device) if rows is None else rows
    sample = part.here(rows[torch.linspace(0, len(rows) - 1, min(SAMPLE, len(rows)), device=device).round().long()])
    volume = crop_volume(consensus.volume, images.box)
    edges = [EDGE_ANGSTROM, *(width * images.pixel_size_angstrom for width in EDGE_PIXELS)]
    masks = [occupancy_mask(volume, images.pixel_size_angstrom, edge) for edge in edges if edge >= EDGE_ANGSTROM]
    gains = [_predicted(images, consensus, mask, sample) for mask in masks]
    return next(mask for mask, gain in zip(masks, gains, strict=True) if gain >= max(gains) - LOST * abs(max(gains)))


@torch.no_grad()
def _predicted(images: Images, consensus: Consensus, mask: Float[Tensor, "d d d"], rows: Int[Tensor, " m"]) -> float:
    """Log likelihood of some images under the masked half map of the other half, over that of no density."""
    plane = SlicePlane.of_box(images.box, images.device)
    deviation, gain = images.slice_deviation(plane), 0.0
    for number in (0, 1):
        density = SliceProjector(crop_volume(consensus.filtered_half(1 - number), images.box) * mask)
        half = rows[images.halves[rows] == number]
        for _, some in images.batches(half.split(images.batch)):
            ctf = plane.take(some.ctf) / deviation
            predicted = plane.take(density.project(some.views())) * ctf
            seen = plane.take(some.coefficients) / deviation
            gain += float((seen.abs().square() - (seen - predicted).abs().square()).sum())
    return images.part.processes.add_numbers(gain)[0]


def flexible_region(
    first: Float[Tensor, "k d d d"],
    second: Float[Tensor, "k d d d"],
    occupied: Float[Tensor, "d d d"],
    pixel_size_angstrom: float,
    moving: Float[Tensor, "d d d"] | None = None,
) -> Bool[np.ndarray, "d d d"]:
    """Voxels whose density varies over the latents, by the agreement of two halves of the data.

    ``first`` and ``second`` are the basis volumes estimated from each half for the same latents. Their product, summed
    over the basis, is the variance of the density where it varies and scatters about zero where it does not. The
    solvent shows how far it scatters: the threshold is beyond all of the solvent, but never so low as to take
    in what moves a hundredth as much as the most mobile voxel. ``moving``: soft mask of what may be taken in at all.
    """
    product = (first * second).sum(dim=0).cpu().numpy()
    shared = gaussian_filter(product, 0.5 * LOW_PASS_ANGSTROM / pixel_size_angstrom)
    box = product.shape[-1]
    sphere = (voxel_radii(box) < 0.95 * box / 2).numpy()
    solvent = sphere & (occupied.cpu().numpy() < 0.01)
    scatter = float(np.quantile(np.abs(shared[solvent]), 0.999)) if solvent.any() else 0.0
    if moving is not None:
        shared = np.where(moving.cpu().numpy() > 0.5 * float(moving.max()), shared, -np.inf)
    region = shared > max(scatter, 0.01 * float(shared.max()), math.ulp(0.0))
    # Where nothing stands out, the one voxel that varies most: a run then finds by itself that nothing moves.
    return region if region.any() else shared == shared.max()

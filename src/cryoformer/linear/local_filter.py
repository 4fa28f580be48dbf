r"""Wiener filter that differs from place to place: protein is kept to high resolution, solvent is not.

The two half maps are split into bands of spatial frequency. In each band b their local agreement,

    c(x) = G * (V1_b V2_b),   p(x) = G * (V1_b^2 + V2_b^2) / 2,   f(x) = c / p,   weight = 2 f / (1 + f),

is the local signal-to-noise ratio as the FSC is the global one (G: a Gaussian window). The sum over bands of weight
times mean map is the filtered density. A filter per shell treats a box of which a tenth is protein as if signal were
spread evenly; this is what programs call filtering by local resolution, with a Wiener weight in place of a cut-off.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from cryoformer.imaging.grids import half_volume_radii, raised_cosine

BANDS = 8
WINDOW_ANGSTROM = 8.0
WINDOW_VOXELS = 2.0  # at least: fewer independent voxels would let chance decide


def local_wiener(
    first: Float[Tensor, "d d d"], second: Float[Tensor, "d d d"], pixel_size_angstrom: float
) -> Float[Tensor, "d d d"]:
    """Density [z, y, x] from two unfiltered half maps. The two lowest bands, wider than the window, are kept whole."""
    box = first.shape[-1]
    sigma = window_voxels(pixel_size_angstrom)
    halves = torch.fft.rfftn(torch.stack([first, second]), dim=(1, 2, 3))
    result = torch.zeros_like(first)
    for band, share in enumerate(band_shares(box, first.device)):
        one, two = torch.fft.irfftn(halves * share, s=(box,) * 3, dim=(1, 2, 3))
        mean = (one + two) / 2
        result += mean if band < 2 else mean * _weight(one, two, sigma)
    return result


def band_shares(box: int, device: torch.device) -> Iterator[Float[Tensor, "d d h"]]:
    """Share of each frequency of the half volume in every band: raised cosines that overlap by half, adding up to 1."""
    radius, width = half_volume_radii(box, device=device), box / 2 / BANDS
    for band in range(BANDS + 1):
        yield raised_cosine(((radius - band * width) / width).abs())


def window_voxels(pixel_size_angstrom: float) -> float:
    """Width (sigma) of the window in voxels."""
    return max(WINDOW_ANGSTROM / pixel_size_angstrom, WINDOW_VOXELS)


def window_mean(values: Float[Tensor, "d d d"], sigma_voxels: float) -> Float[Tensor, "d d d"]:
    """G * values."""
    smooth = gaussian_filter(values.cpu().numpy(), sigma_voxels, mode="constant")
    return torch.from_numpy(smooth).to(values.device)


def _weight(first: Tensor, second: Tensor, sigma_voxels: float) -> Tensor:
    power = window_mean((first.square() + second.square()) / 2, sigma_voxels)
    shared = window_mean(first * second, sigma_voxels)
    agreement = (shared / power.clamp_min(torch.finfo(power.dtype).tiny)).clamp(0.0, 1.0)
    return 2 * agreement / (1 + agreement)

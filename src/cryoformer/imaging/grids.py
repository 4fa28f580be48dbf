"""Grids of a box: voxels in real space, half volumes and their shells in Fourier space, cropping and resampling.

Volumes are [z, y, x] with their origin at voxel ``D // 2``. A half volume is [kz, ky, kx >= 0] in ``rfftn`` order,
without shift; padded ``p`` times, it samples the same frequencies p times as finely.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar, cast, overload

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.errors import InputError

Values = TypeVar("Values", np.ndarray, Tensor)

# Half volumes of more voxels, those of padded boxes above 160, are worked on in pieces of so many.
MOST_VOXELS, PIECE_VOXELS = 2**24, 2**21


def grid_points(box: int, pixel_size_angstrom: float) -> Float[Tensor, "p 3"]:
    """Centres (x, y, z) of a cube's voxels, Angstrom from voxel D // 2, in the order of ``volume.reshape(-1)``."""
    axis = (torch.arange(box, dtype=torch.float32) - box // 2) * pixel_size_angstrom
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack([x, y, z], dim=-1).reshape(-1, 3)


def voxel_radii(box: int) -> Float[Tensor, "d d d"]:
    """Distance of every voxel from the origin, in voxels."""
    return grid_points(box, 1.0).norm(dim=1).reshape(box, box, box)


def half_volume_frequencies(
    box: int, padding: int = 1, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Float[Tensor, "z 1 1"], Float[Tensor, "y 1"], Float[Tensor, " h"]]:
    """kz, ky and kx of a half volume in cycles per box, shaped to be combined."""
    side = padding * box
    k = torch.fft.fftfreq(side, d=1.0 / box, dtype=dtype, device=device)
    kx = torch.arange(side // 2 + 1, dtype=dtype, device=device) / padding
    return k[:, None, None], k[:, None], kx


def half_volume_radii(
    box: int, padding: int = 1, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "z y h"]:
    """|k| of a half volume in cycles per box."""
    kz, ky, kx = half_volume_frequencies(box, padding, device, dtype)
    return torch.sqrt(kz**2 + ky**2 + kx**2)


def planes_of_shells(
    box: int, padding: int, device: torch.device | str | None
) -> Iterator[tuple[slice, Int[Tensor, " v"]]]:
    """The planes kz of a (padded) half volume, some at a time, and the rounded shell of each of their voxels.

    All at once where they are few; of a large box, what is made of all voxels at once would be larger than the volume.
    """
    kz, ky, kx = half_volume_frequencies(box, padding, device)
    plane = len(ky) * len(kx)
    at_once = len(kz) if len(kz) * plane <= MOST_VOXELS else max(1, PIECE_VOXELS // plane)
    for start in range(0, len(kz), at_once):
        planes = slice(start, min(start + at_once, len(kz)))
        yield planes, torch.sqrt(kz[planes] ** 2 + ky**2 + kx**2).round_().long().reshape(-1)


def shell_mean(values: Float[Tensor, "q z y h"], box: int) -> Float[Tensor, "q s"]:
    """Mean over the shells 0 .. D / 2 - 1 of values on a (padded) half volume."""
    return shell_mean_of(lambda planes: values[:, planes], box, values.shape[1] // box, values.device)


def shell_mean_of(
    values: Callable[[slice], Float[Tensor, "q p y h"]], box: int, padding: int, device: torch.device
) -> Float[Tensor, "q s"]:
    """The same of values that are made for some planes kz at a time."""
    sums, counts = [], []
    for planes, shell in planes_of_shells(box, padding, device):
        some = values(planes)
        # All beyond goes into one more shell, which is dropped: cheaper than to pick what is inside.
        shell.clamp_(max=box // 2)
        empty = some.new_zeros(len(some), box // 2 + 1)
        sums.append(empty.index_add_(1, shell, some.reshape(len(some), -1)))
        counts.append(torch.bincount(shell, minlength=box // 2 + 1))
    return (torch.stack(sums).sum(dim=0) / torch.stack(counts).sum(dim=0))[:, : box // 2]


def filter_shells(volumes: Float[Tensor, "*b d d d"], gain: Float[Tensor, " s"]) -> Float[Tensor, "*b d d d"]:
    """Multiply the shells 0, 1, ... of volumes' transforms; beyond its end, ``gain`` stays what it is there."""
    box, axes = volumes.shape[-1], (-3, -2, -1)
    shell = half_volume_radii(box, device=volumes.device).round().long().clamp(max=len(gain) - 1)
    return torch.fft.irfftn(torch.fft.rfftn(volumes, dim=axes) * gain[shell], s=(box,) * 3, dim=axes)


def raised_cosine(x: Values) -> Values:
    """1 up to x = 0, 0 from x = 1 on, and half a period of a cosine between."""
    inside = x.clip(0.0, 1.0)
    falling = torch.cos(torch.pi * inside) if isinstance(inside, Tensor) else np.cos(np.pi * inside)
    return cast(Values, 0.5 + 0.5 * falling)


@overload
def crop_volume(volume: Tensor, box: int, mean: bool = False) -> Tensor: ...
@overload
def crop_volume(volume: np.ndarray, box: int, mean: bool = False) -> np.ndarray: ...
def crop_volume(
    volume: Float[Tensor, "d d d"] | Float[np.ndarray, "d d d"], box: int, mean: bool = False
) -> Float[Tensor, "e e e"] | Float[np.ndarray, "e e e"]:
    """Band-limited volume [z, y, x] of a smaller, even box.

    Its voxels hold the sum of the finer ones, as projections need (so the sum of all stays the same), or with ``mean``
    their mean, as masks and contour levels need. The Nyquist planes are left out, as in
    :func:`cryoformer.imaging.fourier.crop_fourier`. Arrays are cropped in float64 and come back in float32.

    Raises:
        InputError: a larger or an odd box.
    """
    if isinstance(volume, np.ndarray):
        return crop_volume(torch.from_numpy(volume.astype(np.float64)), box, mean).numpy().astype(np.float32)
    size = volume.shape[-1]
    if box == size:
        return volume
    if box > size or box % 2:
        raise InputError(f"cannot crop a volume of box {size} to {box}: expected an even, smaller number")
    coefficients = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(volume)))
    band = slice(size // 2 - box // 2, size // 2 + box // 2)
    kept = coefficients[band, band, band]
    kept[0], kept[:, 0], kept[:, :, 0] = 0, 0, 0
    cropped = torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(kept)).real).contiguous()
    return cropped * (box / size) ** 3 if mean else cropped


def enlarge_volume(volume: Float[Tensor, "d d d"], box: int) -> Float[Tensor, "e e e"]:
    """The same band-limited volume in a larger, even box: what :func:`crop_volume` undoes.

    Raises:
        InputError: a smaller or an odd box.
    """
    size = volume.shape[-1]
    if box == size:
        return volume
    if box < size or box % 2:
        raise InputError(f"cannot enlarge a volume of box {size} to {box}: expected an even, larger number")
    coefficients = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(volume)))
    # Of an even box: its Nyquist planes have no mirror in the larger one.
    coefficients[0], coefficients[:, 0], coefficients[:, :, 0] = 0, 0, 0
    band = slice(box // 2 - size // 2, box // 2 + size // 2)
    larger = coefficients.new_zeros(box, box, box)
    larger[band, band, band] = coefficients
    return torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(larger)).real).contiguous()


def sample_volume(volume: Float[Tensor, "d d d"], points_voxels: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
    """Trilinear values of a volume at points (x, y, z) counted in voxels from its centre; zero outside."""
    box = volume.shape[-1]
    place = (points_voxels + box // 2) * (2.0 / (box - 1)) - 1.0
    return torch.nn.functional.grid_sample(volume[None, None], place[None, None, None], align_corners=True).reshape(-1)


def resample_volume(volume: Float[Tensor, "d d d"], box: int) -> Float[Tensor, "e e e"]:
    """The same field on the grid of another box of the same size in Angstrom (trilinear: for masks)."""
    if box == volume.shape[-1]:
        return volume
    points = grid_points(box, volume.shape[-1] / box).to(volume.device)
    return sample_volume(volume, points).reshape(box, box, box)

r"""Central slices of padded Fourier volumes and their adjoint, for closed-form reconstruction.

The projection of a volume along z after the rotation R is the slice of its Fourier transform through the plane
R^T (kx, ky, 0) (central slice theorem). Volumes are padded ``PADDING`` times before the transform and held as a half
volume ``[kz, ky, kx >= 0]`` in ``rfftn`` order; slices are read by trilinear interpolation and data are inserted by
its transpose. Trilinear interpolation in Fourier space multiplies the volume in real space by a sinc^2, which
:func:`volume_from_fourier` and :func:`fourier_from_volume` divide out.

Only |k| < D / 2 takes part: the corners of the square and the Nyquist frequency are left out.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Complex, Float, Int, Shaped
from torch import Tensor

from cryoformer.imaging.fourier import frequencies, radii
from cryoformer.imaging.grids import MOST_VOXELS, PIECE_VOXELS, shell_mean

PADDING = 2
# Transformed at once for a table of slices.
VOLUMES_AT_ONCE = 8


@dataclass(frozen=True)
class SlicePlane:
    """The coefficients of the half-plane that take part in slices: those inside the Nyquist circle."""

    box: int
    index: Int[Tensor, " m"]  # into the flattened half-plane
    kx: Float[Tensor, " m"]  # cycles per box
    ky: Float[Tensor, " m"]

    @staticmethod
    def of_box(box: int, device: torch.device | None = None) -> "SlicePlane":
        """All coefficients with |k| < D / 2, each member of a conjugate pair once."""
        ky, kx = (k.expand(box, box // 2 + 1) for k in frequencies(box, device))
        inside = radii(box, device) < box // 2
        # On the column kx = 0 the half-plane holds both members of each pair; the lower one would count twice.
        inside = inside & ~((kx == 0) & (ky < 0))
        index = inside.reshape(-1).nonzero()[:, 0]
        return SlicePlane(box, index, kx.reshape(-1)[index], ky.reshape(-1)[index])

    def take(self, half_planes: Tensor) -> Tensor:
        """[b, D, H] -> [b, m]."""
        return half_planes.reshape(*half_planes.shape[:-2], -1)[..., self.index]

    def put(self, values: Complex[Tensor, "b m"]) -> Complex[Tensor, "b d h"]:
        """The half-planes [b, D, H] of real images with these coefficients, zero elsewhere."""
        half_planes = values.new_zeros(len(values), self.box * (self.box // 2 + 1))
        half_planes[:, self.index] = values
        half_planes = half_planes.view(len(values), self.box, -1)
        below = (self.box + 1) // 2 - 1
        half_planes[:, -below:, 0] = torch.flip(half_planes[:, 1 : below + 1, 0], dims=(1,)).conj()
        return half_planes


@dataclass(frozen=True)
class SliceInterpolation:
    """Where the slices of b images fall in the padded half volume: 8 corners and weights per coefficient."""

    index: Int[Tensor, "b m 8"]  # int32
    weight: Float[Tensor, "b m 8"]
    conjugate: Float[Tensor, "b m"]  # -1 where the coefficient was read at its mirror image, +1 elsewhere

    @cached_property
    def entries(self) -> Int[Tensor, " e"]:
        """The corners one after the other, as scatters want them: kept, since data and weights go to the same."""
        return self.index.reshape(-1).long()


def padded_shape(box: int) -> tuple[int, int, int]:
    """Shape of the padded half volume of a box."""
    side = PADDING * box
    return side, side, side // 2 + 1


def interpolate_slices(plane: SlicePlane, rotations: Float[Tensor, "b 3 3"]) -> SliceInterpolation:
    """Corners and trilinear weights of the slices R^T (kx, ky, 0)."""
    side = PADDING * plane.box
    k = rotations[:, :2].transpose(1, 2) @ (PADDING * torch.stack([plane.kx, plane.ky]))  # [b, (x, y, z), m]
    mirror = torch.where(k[:, 0] < 0, -1.0, 1.0)
    k.mul_(mirror[:, None])
    low = k.floor()
    x, y, z = low.int().unbind(1)
    fx, fy, fz = k.sub_(low).unbind(1)
    # Negative frequencies stand in the upper half of their axis.
    z_low, z_high, y_low, y_high = (torch.where(i < 0, i + side, i) for i in (z, z + 1, y, y + 1))
    # Written where it stays: corners that are made one by one and stacked take three times as long.
    index = x.new_empty(*x.shape, 8)
    weight = fx.new_empty(*fx.shape, 8)
    corner, gx = 0, 1 - fx
    for plane_row, wz in ((z_low * side, 1 - fz), (z_high * side, fz)):
        for row, wy in ((y_low, 1 - fy), (y_high, fy)):
            first, share = ((plane_row + row) * (side // 2 + 1)).add_(x), wz * wy
            index[..., corner] = first
            torch.add(first, 1, out=index[..., corner + 1])
            torch.mul(share, gx, out=weight[..., corner])
            torch.mul(share, fx, out=weight[..., corner + 1])
            corner += 2
    return SliceInterpolation(index, weight, mirror)


def read_rows(volumes: Float[Tensor, "v c"], where: SliceInterpolation) -> Float[Tensor, "b m c"]:
    """Interpolated rows of a table with one row per voxel."""
    b, m, _ = where.index.shape
    rows: Tensor = torch.nn.functional.embedding_bag(
        where.index.reshape(-1, 8), volumes, per_sample_weights=where.weight.reshape(-1, 8), mode="sum"
    )
    return rows.reshape(b, m, volumes.shape[1])


def slice_table(volumes: Callable[[slice], Tensor], rank: int, box: int) -> Float[Tensor, "v r2"]:
    """Rows for :func:`extract_slices` of so many volumes, which ``volumes`` gives some at a time, by their numbers."""
    side, table = PADDING * box, None
    for start in range(0, rank, VOLUMES_AT_ONCE):
        rows = slice(start, min(start + VOLUMES_AT_ONCE, rank))
        coefficients = fourier_from_volume(volumes(rows)).flatten(1)
        if table is None:
            table = coefficients.real.new_empty(side * side * (side // 2 + 1), 2 * rank)
        imaginary = slice(rank + rows.start, rank + rows.stop)
        table[:, rows], table[:, imaginary] = coefficients.real.T, coefficients.imag.T
    assert table is not None
    return table


def extract_slices(
    volumes: Float[Tensor, "v c2"], where: SliceInterpolation, channels: int
) -> Complex[Tensor, "b m c"]:
    """Slices of c volumes held as rows (real parts, then imaginary parts): ``volumes`` is [voxels, 2 c]."""
    rows = read_rows(volumes, where)
    return torch.complex(rows[..., :channels], rows[..., channels:] * where.conjugate[..., None])


def insert_slices(target: Shaped[Tensor, " v"], values: Shaped[Tensor, "b m"], where: SliceInterpolation) -> None:
    """Add values, real or complex as the target, to a padded half volume by the transpose of the interpolation.

    In place. Imaginary parts must come multiplied by ``where.conjugate``.
    """
    entries = values[..., None] * where.weight
    target.scatter_add_(0, where.entries, entries.reshape(-1))


class VoxelOrder:
    """The corners of b slices in the order of the voxels they fall on: sums over images as a sparse matrix product.

    Where an image enters many volumes with one factor each, the factors of all images fit the cache, and a voxel is
    written once a batch: some ten times faster than to scatter every product by itself.
    """

    def __init__(self, where: SliceInterpolation, voxels: int) -> None:
        self._where = where
        b = len(where.index)
        index = where.index.reshape(-1).cpu().numpy()
        starts = np.arange(b + 1, dtype=np.int32) * np.int32(len(index) // b)
        # scipy transposes by counting, in linear time; the entries it moves are their own places.
        places = np.arange(len(index), dtype=np.int32)
        by_voxel = scipy.sparse.csr_array((places, index, starts), shape=(b, voxels)).tocsc()
        device = where.index.device
        self._order, self._images, self._starts = (
            torch.from_numpy(array).to(device) for array in (by_voxel.data, by_voxel.indices, by_voxel.indptr)
        )

    def insert(self, target: Float[Tensor, "v c"], values: Float[Tensor, "b m"], factors: Float[Tensor, "b c"]) -> None:
        """Add factors[i, c] times the values of image i to volume c by the transpose of the interpolation, in place.

        The same as :func:`insert_slices` of every product into every column.
        """
        entries = (values[..., None] * self._where.weight).reshape(-1).index_select(0, self._order)
        shape = (len(target), len(factors))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
            matrix = torch.sparse_csr_tensor(self._starts, self._images, entries, shape, check_invariants=False)
        torch.addmm(target, matrix, factors, out=target)


def add_friedel_mates(volumes: Float[Tensor, "z y x c"], sign: float) -> None:
    """Add to the plane kx = 0 what was inserted at its mirror image, in place; ``sign`` is -1 for imaginary parts."""
    plane = volumes[:, :, 0]
    volumes[:, :, 0] = plane + sign * torch.roll(torch.flip(plane, dims=(0, 1)), shifts=(1, 1), dims=(0, 1))


def _window(box: int, device: torch.device) -> Float[Tensor, "d d d"]:
    x = torch.sinc((torch.arange(box, device=device) - box // 2) / (PADDING * box)) ** 2
    return x[:, None, None] * x[None, :, None] * x[None, None, :]


def volume_from_fourier(coefficients: Complex[Tensor, "*c z y x"], box: int) -> Float[Tensor, "*c d d d"]:
    """Real volumes [z, y, x] of padded half volumes, with the interpolation's window divided out."""
    side = PADDING * box
    if coefficients[..., 0, 0, 0].numel() == 1 and side * side * (side // 2 + 1) > MOST_VOXELS:
        flat = coefficients.view(padded_shape(box))
        return (_large_inverse(flat, box) / _window(box, flat.device)).view(*coefficients.shape[:-3], box, box, box)
    padded = torch.fft.fftshift(torch.fft.irfftn(coefficients, s=(side,) * 3, dim=(-3, -2, -1)), dim=(-3, -2, -1))
    start = side // 2 - box // 2
    inner = slice(start, start + box)
    return padded[..., inner, inner, inner] / _window(box, coefficients.device)


def _large_inverse(coefficients: Complex[Tensor, "z y x"], box: int) -> Float[Tensor, "d d d"]:
    """The same transform axis by axis, each cropped at once: the padded volume is never made."""
    side = PADDING * box
    # Voxel j of the volume is voxel j - D // 2 of the transform, counted round.
    kept = (torch.arange(box, device=coefficients.device) - box // 2) % side
    columns = [
        torch.fft.ifft(torch.fft.ifft(some, dim=0)[kept], dim=1)[:, kept]
        for some in coefficients.split(max(1, PIECE_VOXELS // side**2), dim=2)
    ]
    half = torch.cat(columns, dim=2)
    return torch.cat([torch.fft.irfft(some, n=side, dim=2)[:, :, kept] for some in half.split(max(1, box // 8))])


def shell_power(volumes: Float[Tensor, "q d d d"]) -> Float[Tensor, "q s"]:
    """Mean power of the padded transforms of volumes over the shells 0 .. D / 2 - 1."""
    # One at a time: at a large box a transform takes many times the memory of its volume.
    return torch.cat([shell_mean(fourier_from_volume(one).abs().square(), one.shape[-1]) for one in volumes.split(1)])


def fourier_from_volume(volume: Float[Tensor, "*c d d d"]) -> Complex[Tensor, "*c z y x"]:
    """Padded half volumes whose trilinear slices are projections of the volumes."""
    box = volume.shape[-1]
    side = PADDING * box
    windowed = volume / _window(box, volume.device)
    if volume[..., 0, 0, 0].numel() == 1 and side * side * (side // 2 + 1) > MOST_VOXELS:
        return _large_forward(windowed.reshape(box, box, box)).view(*volume.shape[:-3], *padded_shape(box))
    before = side // 2 - box // 2
    after = side - box - before
    padded = torch.nn.functional.pad(windowed, (before, after) * 3)
    return torch.fft.rfftn(torch.fft.ifftshift(padded, dim=(-3, -2, -1)), dim=(-3, -2, -1))


def _large_forward(volume: Float[Tensor, "d d d"]) -> Complex[Tensor, "z y x"]:
    """The same transform axis by axis, each padded when its turn comes; the inverse of :func:`_large_inverse`."""
    box = len(volume)
    side = PADDING * box
    kept = (torch.arange(box, device=volume.device) - box // 2) % side

    def padded(some: Tensor, axis: int) -> Tensor:
        shape = [side if number == axis else size for number, size in enumerate(some.shape)]
        return some.new_zeros(shape).index_copy_(axis, kept, some)

    half = torch.cat([torch.fft.rfft(padded(some, 2), dim=2) for some in volume.split(max(1, box // 8))])
    result = half.new_empty(padded_shape(box))
    for columns in torch.arange(result.shape[2], device=volume.device).split(max(1, PIECE_VOXELS // side**2)):
        some = torch.fft.fft(padded(half[:, :, columns], 1), dim=1)
        result[:, :, columns] = torch.fft.fft(padded(some, 0), dim=0)
    return result

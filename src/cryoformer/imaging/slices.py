r"""Central slices of padded Fourier volumes and their adjoint, for closed-form reconstruction.

The projection of a volume along z after the rotation R is the slice of its Fourier transform through the plane
R^T (kx, ky, 0) (central slice theorem). Volumes are padded ``PADDING`` times before the transform and held as a half
volume ``[kz, ky, kx >= 0]`` in ``rfftn`` order; slices are read by trilinear interpolation and data are inserted by
its transpose. Trilinear interpolation in Fourier space multiplies the volume in real space by a sinc^2, which
:func:`volume_from_fourier` and :func:`fourier_from_volume` divide out.

Only |k| < D / 2 takes part: the corners of the square and the Nyquist frequency are left out.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryoformer.imaging.fourier import frequencies, radii

PADDING = 2


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

    index: Int[Tensor, "b m 8"]
    weight: Float[Tensor, "b m 8"]
    conjugate: Float[Tensor, "b m"]  # -1 where the coefficient was read at its mirror image, +1 elsewhere


def padded_shape(box: int) -> tuple[int, int, int]:
    """Shape of the padded half volume of a box."""
    side = PADDING * box
    return side, side, side // 2 + 1


def interpolate_slices(plane: SlicePlane, rotations: Float[Tensor, "b 3 3"]) -> SliceInterpolation:
    """Corners and trilinear weights of the slices R^T (kx, ky, 0)."""
    side = PADDING * plane.box
    k = PADDING * (plane.kx[:, None] * rotations[:, None, 0] + plane.ky[:, None] * rotations[:, None, 1])  # x, y, z
    mirror = torch.where(k[..., :1] < 0, -1.0, 1.0)
    k = k * mirror
    floor = torch.floor(k)
    fraction = k - floor
    x0, y0, z0 = floor.long().unbind(-1)
    fx, fy, fz = fraction.unbind(-1)
    zs, ys = [z0 % side * side, (z0 + 1) % side * side], [y0 % side, (y0 + 1) % side]
    wz, wy, wx = [1 - fz, fz], [1 - fy, fy], [1 - fx, fx]
    index = x0.new_empty(*x0.shape, 8)
    weight = fx.new_empty(*fx.shape, 8)
    for corner in range(8):
        dz, dy, dx = corner >> 2, corner >> 1 & 1, corner & 1
        index[..., corner] = (zs[dz] + ys[dy]) * (side // 2 + 1) + x0 + dx
        weight[..., corner] = wz[dz] * wy[dy] * wx[dx]
    return SliceInterpolation(index, weight, mirror[..., 0])


def extract_slices(
    volumes: Float[Tensor, "v c2"], where: SliceInterpolation, channels: int
) -> Complex[Tensor, "b m c"]:
    """Slices of c volumes held as rows (real parts, then imaginary parts): ``volumes`` is [voxels, 2 c]."""
    b, m, _ = where.index.shape
    rows = torch.nn.functional.embedding_bag(
        where.index.reshape(-1, 8), volumes, per_sample_weights=where.weight.reshape(-1, 8), mode="sum"
    ).reshape(b, m, 2 * channels)
    return torch.complex(rows[..., :channels], rows[..., channels:] * where.conjugate[..., None])


def insert_slices(target: Float[Tensor, "c v"], values: Float[Tensor, "c b m"], where: SliceInterpolation) -> None:
    """Add real values to padded half volumes (one row each) by the transpose of the interpolation, in place.

    Imaginary parts must come multiplied by ``where.conjugate``.
    """
    flat = values.reshape(len(values), -1)
    for corner in range(8):
        index = where.index[..., corner].reshape(1, -1).expand(len(values), -1)
        target.scatter_add_(1, index, flat * where.weight[..., corner].reshape(1, -1))


def fold_mirror_plane(volumes: Float[Tensor, "c z y x"], sign: float) -> None:
    """Add to the plane kx = 0 what was inserted at its mirror image, in place; ``sign`` is -1 for imaginary parts."""
    plane = volumes[..., 0]
    volumes[..., 0] = plane + sign * torch.roll(torch.flip(plane, dims=(1, 2)), shifts=(1, 1), dims=(1, 2))


def _window(box: int, device: torch.device) -> Float[Tensor, "d d d"]:
    x = torch.sinc((torch.arange(box, device=device) - box // 2) / (PADDING * box)) ** 2
    return x[:, None, None] * x[None, :, None] * x[None, None, :]


def volume_from_fourier(coefficients: Complex[Tensor, "*c z y x"], box: int) -> Float[Tensor, "*c d d d"]:
    """Real volumes [z, y, x] of padded half volumes, with the interpolation's window divided out."""
    side = PADDING * box
    padded = torch.fft.fftshift(torch.fft.irfftn(coefficients, s=(side,) * 3, dim=(-3, -2, -1)), dim=(-3, -2, -1))
    start = side // 2 - box // 2
    inner = slice(start, start + box)
    return padded[..., inner, inner, inner] / _window(box, coefficients.device)


def fourier_from_volume(volume: Float[Tensor, "*c d d d"]) -> Complex[Tensor, "*c z y x"]:
    """Padded half volumes whose trilinear slices are projections of the volumes."""
    box = volume.shape[-1]
    side = PADDING * box
    before = side // 2 - box // 2
    after = side - box - before
    padded = torch.nn.functional.pad(volume / _window(box, volume.device), (before, after) * 3)
    return torch.fft.rfftn(torch.fft.ifftshift(padded, dim=(-3, -2, -1)), dim=(-3, -2, -1))

r"""What stays and what moves, at one box: the densities of the still part and of every part in its own frame.

sigma(x; z) = b(x) + sum_m V_m( R_m(z)^T (x - c_m(z)) )
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float
from scipy.ndimage import binary_dilation, map_coordinates, spline_filter
from torch import Tensor

from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.slices import SlicePlane, extract_slices, fourier_from_volume, interpolate_slices
from cryoformer.parts.motion import PartMotions, PartPlaces

ORDER = 3  # of the splines that moved densities are read from
LEAST_SHARE = 1e-3
SWEEP_STATES = 64


@dataclass(frozen=True)
class PartDensities:
    """The densities of one box; that of a part is centred on its pivot."""

    still: Float[Tensor, "d d d"]
    parts: Float[Tensor, "m d d d"]
    pixel_size_angstrom: float

    @property
    def box(self) -> int:
        return self.still.shape[-1]


class MovedParts:
    """Volumes of the parts (or of any fields of their frames) in the molecule's frame."""

    def __init__(self, parts: Float[Tensor, "m d d d"], pixel_size_angstrom: float, order: int = ORDER) -> None:
        self.box, self.pixel_size_angstrom, self.order = parts.shape[-1], pixel_size_angstrom, order
        volumes = parts.cpu().numpy().astype(np.float32)
        self._splines = [spline_filter(volume, order, output=np.float32) if order > 1 else volume for volume in volumes]
        self._held = [_held(volume) for volume in volumes]
        self._around = [self._offsets(held) for held in self._held]

    def _offsets(self, held: Bool[np.ndarray, "d d d"]) -> Float[Tensor, "q 3"]:
        """Voxels (x, y, z) of the ball that holds the part however it is turned, and one beyond."""
        away = np.argwhere(held) - self.box // 2
        radius = float(np.sqrt((away**2).sum(axis=1)).max()) + 2.0 if len(away) else 0.0
        ball = grid_points(2 * int(radius) + 2, 1.0)
        return ball[ball.square().sum(dim=1) < radius**2]

    def at(self, places: PartPlaces, state: int) -> Float[np.ndarray, "d d d"]:
        """Sum of the parts in one state."""
        total = np.zeros((self.box,) * 3, dtype=np.float32)
        for number, (spline, held) in enumerate(zip(self._splines, self._held, strict=True)):
            centre = places.centres[number, state].cpu() / self.pixel_size_angstrom
            voxels = self._around[number] + centre.round()
            own = (voxels - centre) @ places.rotations[number, state].cpu()  # R^T (x - c)
            # As [z, y, x]: of the molecule's frame, and of the part's.
            there, here = (each.numpy()[:, ::-1] + self.box // 2 for each in (voxels, own))
            there, nearest = there.astype(np.int64), np.rint(here).astype(np.int64)
            inside = ((there >= 0) & (there < self.box) & (nearest >= 0) & (nearest < self.box)).all(axis=1)
            inside[inside] = held[tuple(nearest[inside].T)]
            total[tuple(there[inside].T)] += map_coordinates(
                spline, here[inside].T, order=self.order, prefilter=False, output=np.float32
            )
        return total

    def all(self, places: PartPlaces) -> Iterator[Float[np.ndarray, "d d d"]]:
        """State by state."""
        for state in range(places.rotations.shape[1]):
            yield self.at(places, state)


def _held(volume: Float[np.ndarray, "d d d"]) -> Bool[np.ndarray, "d d d"]:
    """Where a volume holds something, and two voxels beyond."""
    held = np.abs(volume) > LEAST_SHARE * max(np.abs(volume).max(), 1e-30)
    return binary_dilation(held, iterations=2)


def swept(
    masks: Float[Tensor, "m d d d"], pixel_size_angstrom: float, motions: PartMotions, latents: Float[Tensor, "n k"]
) -> Bool[Tensor, "d d d"]:
    """Where parts ever are, and a voxel beyond."""
    rows = torch.linspace(0, len(latents) - 1, min(SWEEP_STATES, len(latents))).round().long()
    moved = MovedParts(masks, pixel_size_angstrom, order=1).all(motions.at(latents[rows]))
    union = np.max(list(moved), axis=0) > 0.01
    return torch.from_numpy(binary_dilation(union))


class FieldProjector:
    """Slices of one density, or of the density and its gradient."""

    def __init__(self, volume: Float[Tensor, "d d d"], pixel_size_angstrom: float, *, sloped: bool = False) -> None:
        self.plane = SlicePlane.of_box(volume.shape[-1], volume.device)
        self.side_angstrom = volume.shape[-1] * pixel_size_angstrom
        fields = [volume]
        if sloped:
            places = grid_points(volume.shape[-1], pixel_size_angstrom).to(volume.device)
            fields += [axis.reshape(volume.shape) * volume for axis in places.T]
        self.channels = len(fields)
        coefficients = torch.stack([fourier_from_volume(field).flatten() for field in fields], dim=1)
        self._table = torch.cat([coefficients.real, coefficients.imag], dim=1).contiguous()

    @torch.no_grad()
    def project(self, rotations: Float[Tensor, "b 3 3"]) -> Complex[Tensor, "b q c"]:
        """Coefficients of the plane: density, then x, y, z times density."""
        return extract_slices(self._table, interpolate_slices(self.plane, rotations), self.channels)

    def phases(self, shifts: Float[Tensor, "b 2"]) -> Complex[Tensor, "b q"]:
        """What moves a slice by (x, y) Angstrom in its image."""
        k = torch.stack([self.plane.kx, self.plane.ky])
        angle = -2 * torch.pi / self.side_angstrom * (shifts @ k)
        return torch.polar(torch.ones_like(angle), angle)

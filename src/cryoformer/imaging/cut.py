r"""Slices of densities that fill only a part of the box: of a smaller box about them, whose transform fits the cache.

Frequencies are the same in cycles per voxel; where the smaller box stands in the image is a phase,

    P V (k) = exp(-2 pi i k.(R c)_xy / D)  P V' (k),       V' the density in its own box, c the centre of that.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from cryoformer.imaging.slices import SlicePlane

# Trilinear slices are poor at the very edge of a box: voxels to spare on either side.
MARGIN = 2


@dataclass(frozen=True)
class Cut:
    """A cube of ``side`` voxels about the place ``centre`` (x, y, z, voxels from the middle of a box)."""

    box: int
    side: int
    centre: Float[Tensor, "3"]

    @staticmethod
    def about(region: Bool[Tensor, "d d d"]) -> "Cut":
        """The smallest that holds a region; the whole box where it would not be smaller."""
        box = region.shape[-1]
        where = region.nonzero()
        if not len(where):
            return Cut(box, box, torch.zeros(3))
        low, high = where.amin(dim=0), where.amax(dim=0)
        side = 2 * ((int((high - low).max()) + 2) // 2 + MARGIN)
        if side >= box:
            return Cut(box, box, torch.zeros(3))
        centre = torch.div(low + high + 1, 2, rounding_mode="floor") - box // 2
        return Cut(box, side, centre.flip(0).float())

    def place(self, values: Float[Tensor, "r p"], region: Bool[Tensor, "d d d"]) -> Float[Tensor, "r s s s"]:
        """Volumes of the cube with these values at the voxels of a region of the box, zero elsewhere."""
        where = region.nonzero() - self.box // 2 - self.centre.flip(0).long() + self.side // 2
        index = (where[:, 0] * self.side + where[:, 1]) * self.side + where[:, 2]
        full = values.new_zeros(len(values), self.side**3)
        full[:, index] = values
        return full.view(-1, self.side, self.side, self.side)

    def plane(self, plane: SlicePlane) -> SlicePlane:
        """The coefficients of a plane of the box, as those of the cube."""
        ratio = self.side / self.box
        return SlicePlane(self.side, plane.index, plane.kx * ratio, plane.ky * ratio)

    def centred(
        self, data: Complex[Tensor, "b m"], plane: SlicePlane, views: Float[Tensor, "b 3 3"]
    ) -> Complex[Tensor, "b m"]:
        """Coefficients of the box's plane, shifted so that the centre of the cube is in the middle of the image."""
        if self.side == self.box:
            return data
        seen = (views @ self.centre.to(views))[:, :2]
        angle = (2 * torch.pi / self.box) * (seen @ torch.stack([plane.kx, plane.ky]))
        return data * torch.polar(torch.ones_like(angle), angle)

"""What a linear model says moves in every image, as the images show it: taken off where it is not to be looked at."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryoformer.imaging.grids import crop_volume
from cryoformer.imaging.slices import SlicePlane, extract_slices, interpolate_slices, slice_table


@dataclass(frozen=True)
class LinearMotion:
    """Densities sum_j z_ij U_j of n images.

    Attributes:
        basis: U [q, D, D, D].
        latents: z [n, q].
    """

    basis: Float[Tensor, "q d d d"]
    latents: Float[Tensor, "n q"]
    _table: Float[Tensor, "v q2"] | None = field(default=None, repr=False, compare=False)

    def ready(self) -> "LinearMotion":
        """With the transforms of its volumes as rows, which every projection reads."""
        return replace(self, _table=slice_table(lambda rows: self.basis[rows], len(self.basis), self.basis.shape[-1]))

    @torch.no_grad()
    def project(self, views: Float[Tensor, "b 3 3"], rows: Int[Tensor, " b"]) -> Complex[Tensor, "b d h"]:
        """What these images show of it, without CTF."""
        assert self._table is not None
        plane = SlicePlane.of_box(self.basis.shape[-1], views.device)
        slices = extract_slices(self._table, interpolate_slices(plane, views), len(self.basis))
        return plane.put((slices @ self.latents[rows].to(slices.dtype)[:, :, None])[..., 0])

    def scaled(self, contrast: Float[Tensor, " n"]) -> "LinearMotion":
        """As strong as each image is."""
        return LinearMotion(self.basis, self.latents * contrast[:, None])

    def plus(self, other: "LinearMotion") -> "LinearMotion":
        """Both together, of the same images."""
        return LinearMotion(torch.cat([self.basis, other.basis]), torch.cat([self.latents, other.latents], dim=1))

    def crop(self, box: int) -> "LinearMotion":
        """The same at a smaller box."""
        return LinearMotion(torch.stack([crop_volume(volume, box) for volume in self.basis]), self.latents).ready()

    def of(self, rows: slice) -> "LinearMotion":
        """The same of some of the images."""
        return replace(self, latents=self.latents[rows])

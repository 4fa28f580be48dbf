r"""Images compared with many views of a map, at many shifts: one matrix product.

With A = C Y / s^2 and the CTF's power W = C^2 / s^2, the log likelihood ratio of image i at the view P_r and shift d
against no density at all is

    l_i(r, d) = 2 Re sum_k conj(P_r) A_i exp(2 pi i k.d / L)  -  sum_k W_i |P_r|^2

so all images and shifts against all views are a product of two real matrices, less another that knows no shifts.
Coefficients are sorted by frequency: a band is the first m of them. The mean of an image takes no part.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.slices import SlicePlane, extract_slices, fourier_from_volume, interpolate_slices
from cryoformer.poses.cone import Cone

# Numbers in a tile of scores: it should stay in the cache from the product to the exponentials.
TILE = 2**21


@dataclass(frozen=True)
class BandImages:
    """n images as the matching wants them.

    Attributes:
        plane: the coefficients, by rising |k|, without the mean.
        data: A = C Y / s^2.
        weight: W = C^2 / s^2.
        power: mean of |Y|^2 / s^2 over the images that these were taken from.
        side_angstrom: L, the side of the box.
        cone: what is known of the rotations, if anything.
    """

    plane: SlicePlane
    data: Complex[Tensor, "n m"]
    weight: Float[Tensor, "n m"]
    power: Float[Tensor, " m"]
    side_angstrom: float
    cone: Cone | None = None

    @staticmethod
    def of(images: FourierImages, cone_degrees: float | None = None) -> "BandImages":
        """All coefficients of images inside the Nyquist circle; with a cone, about the rotations that images have."""
        plane = SlicePlane.of_box(images.box, images.device)
        radius = torch.hypot(plane.kx, plane.ky)
        order = radius.argsort(stable=True)[1:]
        plane = SlicePlane(plane.box, plane.index[order], plane.kx[order], plane.ky[order])
        variance = plane.take(images.noise_deviation()).square()
        ctf = plane.take(images.ctf)
        data = plane.take(images.coefficients)
        power = data.abs().square().mean(dim=0) / variance
        data, weight = data * (ctf / variance), ctf.square() / variance
        cone = None if cone_degrees is None else Cone(images.rotations, cone_degrees)
        return BandImages(plane, data, weight, power, images.box * images.pixel_size_angstrom, cone)

    def __len__(self) -> int:
        return len(self.data)

    @property
    def radius(self) -> Float[Tensor, " m"]:
        """|k| of every coefficient, in cycles per box."""
        return torch.hypot(self.plane.kx, self.plane.ky)

    def band(self, shells: float) -> "BandImages":
        """The coefficients of |k| <= shells + 1/2."""
        count, plane = int((self.radius <= shells + 0.5).sum()), self.plane
        plane = SlicePlane(plane.box, plane.index[:count], plane.kx[:count], plane.ky[:count])
        data, weight, power = self.data[:, :count], self.weight[:, :count], self.power[:count]
        return replace(self, plane=plane, data=data, weight=weight, power=power)

    def with_less_noise(self, share: Float[Tensor, " m"]) -> "BandImages":
        """The same images if the noise's variance is these shares of what it was taken to be."""
        return replace(self, data=self.data / share, weight=self.weight / share, power=self.power / share)

    def take(self, rows: Int[Tensor, " b"]) -> "BandImages":
        """These images."""
        cone = None if self.cone is None else self.cone.take(rows)
        return replace(self, data=self.data[rows], weight=self.weight[rows], cone=cone)

    def phases(self, shifts_angstrom: Float[Tensor, "*t 2"]) -> Complex[Tensor, "*t m"]:
        """exp(2 pi i k.d / L): factors that take a shift of d out of an image."""
        angle = (2 * torch.pi / self.side_angstrom) * (shifts_angstrom @ torch.stack([self.plane.kx, self.plane.ky]))
        return torch.polar(torch.ones_like(angle), angle)

    def shifted(self, shifts_angstrom: Float[Tensor, "t 2"]) -> Float[Tensor, "nt m2"]:
        """The data with every shift taken out, as rows of real numbers, image by image."""
        moved = self.data[:, None] * self.phases(shifts_angstrom)
        return torch.view_as_real(moved).flatten(2).flatten(0, 1)


def views(volume: Float[Tensor, "d d d"], plane: SlicePlane, rotations: Float[Tensor, "r 3 3"]) -> Tensor:
    """Slices [r, m] of a map, without CTF."""
    coefficients = fourier_from_volume(volume).reshape(-1)
    table = torch.stack([coefficients.real, coefficients.imag], dim=1)
    tiles = rotations.split(max(1, TILE // (8 * len(plane.index))))
    return torch.cat([extract_slices(table, interpolate_slices(plane, some), 1)[..., 0] for some in tiles])


def shift_grid(step_angstrom: float, reach: int) -> Float[Tensor, "t 2"]:
    """(2 reach + 1)^2 shifts on a square."""
    line = torch.arange(-reach, reach + 1) * step_angstrom
    return torch.cartesian_prod(line, line)


@dataclass(frozen=True)
class ScoreTile:
    """Scores of the images ``start`` .. ``start + b`` at all shifts and views, and the rows that they come from."""

    start: int
    scores: Float[Tensor, "b t r"]
    rows: Float[Tensor, "bt m2"]
    weight: Float[Tensor, "b m"]


def score_tiles(
    images: BandImages, slices: Complex[Tensor, "r m"], rotations: Float[Tensor, "r 3 3"], shifts: Float[Tensor, "t 2"]
) -> Iterator[ScoreTile]:
    """l_i(r, d) of all images, some at a time; a tile's memory is used again for the next one.

    Where something is known of the rotations, their log prior is added.
    """
    number, count = len(shifts), len(slices)
    tile = max(1, min(len(images), TILE // (number * count)))
    columns, power = torch.view_as_real(slices).flatten(1).T.contiguous(), slices.abs().square().T.contiguous()
    buffer = torch.empty(tile * number, count, device=slices.device)
    for start in range(0, len(images), tile):
        some = replace(images, data=images.data[start : start + tile], weight=images.weight[start : start + tile])
        rows = some.shifted(shifts)
        scores = torch.mm(rows, columns, out=buffer[: len(rows)]).view(len(some), number, count)
        scores.mul_(2).sub_((some.weight @ power)[:, None])
        if images.cone is not None:
            rows_here = torch.arange(start, start + len(some), device=slices.device)
            scores.add_(images.cone.take(rows_here).log_prior(rotations)[:, None])
        yield ScoreTile(start, scores, rows, some.weight)

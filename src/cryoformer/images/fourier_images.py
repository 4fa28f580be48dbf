"""Images as the reconstruction works on them: normalised, right way round, centred half-planes with their CTF.

Poses are fixed here, so the shift of each particle is taken out once, by a phase factor, and projections need
rotations only. :class:`FourierImages` lie in memory; :mod:`.streamed` reads those that do not fit. Both are
:class:`Images`: whatever goes over a data set asks for :meth:`Images.batches`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryoformer.images.linear_motion import LinearMotion
from cryoformer.images.shard import Shard
from cryoformer.imaging.fourier import crop_fourier, frequencies, shells
from cryoformer.imaging.slices import SlicePlane, extract_slices, fourier_from_volume, interpolate_slices

# A pass over images takes as many at a time, but no more coefficients than 256 images of 64 pixels have: what it makes
# of a batch takes some 200 bytes a coefficient.
BATCH = 256
BATCH_COEFFICIENTS = 256 * 64 * 33


@dataclass(frozen=True)
class Images(ABC):
    """n images of one box: all, or those that this process holds.

    Attributes:
        rotations: R_i.
        scale: ratio of the finest pixel size to the image's own, 1 unless optics groups differ: an image that is
            sampled more coarsely shows a smaller density.
        halves: 0 or 1, the half of the data that an image belongs to.
        noise_power: variance of the noise per shell 0 .. D / 2, in units of |Y|^2, where the particle is: of images
            that end softly (:mod:`cryoformer.imaging.edges`) that is more than they hold on average.
        pixel_size_angstrom: of this box.
        voxel_angstrom: the pixel size that densities refer to (that of the full box, whatever was cropped).
        shard: which of all images these are; None: all.
        noise_kept: the share of the noise's power that the edges of images leave in them.
    """

    rotations: Float[Tensor, "n 3 3"]
    scale: Float[Tensor, " n"]
    halves: Int[Tensor, " n"]
    noise_power: Float[Tensor, " s"]
    pixel_size_angstrom: float
    voxel_angstrom: float
    shard: Shard | None = field(default=None, kw_only=True)
    noise_kept: float = field(default=1.0, kw_only=True)

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    @abstractmethod
    def box(self) -> int:
        """Image side D in pixels."""

    def views(self, rows: Tensor | slice = slice(None)) -> Float[Tensor, "m 3 3"]:
        """scale_i R_i of these images, which takes points of the density to where they are seen: what is sliced by."""
        return self.rotations[rows] * self.scale[rows, None, None]

    @property
    def part(self) -> Shard:
        """Which of all images these are."""
        return self.shard or Shard.whole(len(self))

    @property
    def device(self) -> torch.device:
        return self.rotations.device

    @abstractmethod
    def take(self, rows: Int[Tensor, " m"]) -> "FourierImages":
        """These images, in memory, in this order."""

    @abstractmethod
    def crop(self, box: int) -> "Images":
        """The same images in a smaller box: the same coefficients, fewer of them."""

    @abstractmethod
    def minus(self, volume: Float[Tensor, "d d d"]) -> "Images":
        """Residuals Y_i - C_i P_i V, V [z, y, x] of the images' box.

        Outside the Nyquist circle nothing is predicted.
        """

    @abstractmethod
    def minus_motion(self, motion: LinearMotion) -> "Images":
        """The same images without what a linear model (of all images, at their box) says of every one."""

    @abstractmethod
    def with_contrast(self, contrast: Float[Tensor, " m"]) -> "Images":
        """The same images, with CTFs that hold the contrast of each (of all images, whatever processes share them)."""

    def batches(self, rows: Iterable[Tensor]) -> "Iterator[tuple[Tensor, FourierImages]]":
        """These batches of rows, each with its images; empty ones, where a process has nothing to do, are left out."""
        for some in rows:
            if len(some):
                yield some, self.take(some)

    def draw(self, rows: Int[Tensor, " m"]) -> "FourierImages":
        """These rows of all, which ascend, in memory: every process has those that it holds."""
        drawn = self.part.drawn(rows)
        return replace(self.take(self.part.here(rows)), shard=drawn)

    def gathered(self, rows: Int[Tensor, " m"]) -> "FourierImages":
        """These rows of all, which ascend, in memory, in every process."""
        here, gather = self.take(self.part.here(rows)), self.part.processes.gather
        return replace(
            here,
            rotations=gather(here.rotations),
            scale=gather(here.scale),
            halves=gather(here.halves),
            coefficients=gather(here.coefficients),
            ctf=gather(here.ctf),
        )

    def _with(self, rows: Tensor, coefficients: Tensor, ctf: Tensor) -> "FourierImages":
        """These rows with coefficients that are at hand."""
        return FourierImages(
            rotations=self.rotations[rows],
            scale=self.scale[rows],
            halves=self.halves[rows],
            noise_power=self.noise_power,
            pixel_size_angstrom=self.pixel_size_angstrom,
            voxel_angstrom=self.voxel_angstrom,
            coefficients=coefficients,
            ctf=ctf,
            noise_kept=self.noise_kept,
        )

    def with_noise(self, noise_power: Float[Tensor, " s"]) -> "Images":
        """The same images with another noise spectrum."""
        return replace(self, noise_power=noise_power)

    @property
    def batch(self) -> int:
        """Images that a pass takes at a time."""
        return max(1, min(BATCH, BATCH_COEFFICIENTS // (self.box * (self.box // 2 + 1))))

    def every(self, batch: int | None = None) -> tuple[Tensor, ...]:
        """All rows, in batches."""
        return torch.arange(len(self), device=self.device).split(batch or self.batch)

    def half(self, number: int) -> Int[Tensor, " m"]:
        """Rows of one half of the data."""
        return (self.halves == number).nonzero()[:, 0]

    def noise_deviation(self) -> Float[Tensor, "d h"]:
        """Standard deviation of the noise at every coefficient of the half-plane."""
        return self.noise_power[shells(self.box, self.device).clamp(max=self.box // 2)].sqrt()

    def slice_deviation(self, plane: SlicePlane) -> Float[Tensor, " m"]:
        """The same at the coefficients of slices, for likelihoods; infinite at the image's mean, which is left out.

        Whoever subtracts the mean of the background puts its noise there: several times as much as elsewhere, and of
        one piece with the noise of the lowest frequencies, which a linear subspace takes for a component of density.
        """
        deviation = plane.take(self.noise_deviation())
        return deviation.masked_fill((plane.kx == 0) & (plane.ky == 0), torch.inf)


@dataclass(frozen=True)
class FourierImages(Images):
    """Images in memory.

    Attributes:
        coefficients: Y_i, plain sums of normalised pixels (see :mod:`cryoformer.imaging.fourier`).
        ctf: C_i on the same half-plane.
    """

    coefficients: Complex[Tensor, "n d h"]
    ctf: Float[Tensor, "n d h"]

    @property
    def box(self) -> int:
        return self.coefficients.shape[-2]

    def take(self, rows: Int[Tensor, " m"]) -> "FourierImages":
        return self._with(rows, self.coefficients[rows], self.ctf[rows])

    def crop(self, box: int) -> "FourierImages":
        if box == self.box:
            return self
        return replace(
            self,
            coefficients=crop_fourier(self.coefficients, self.box, box),
            ctf=crop_fourier(self.ctf.to(torch.complex64), self.box, box).real.contiguous(),
            noise_power=self.noise_power[: box // 2 + 1],
            pixel_size_angstrom=self.pixel_size_angstrom * self.box / box,
        )

    def with_contrast(self, contrast: Float[Tensor, " m"]) -> "FourierImages":
        return replace(self, ctf=self.ctf * contrast[self.part.start : self.part.stop, None, None])

    def minus_motion(self, motion: LinearMotion) -> "FourierImages":
        here, left = motion.of(slice(self.part.start, self.part.stop)).ready(), self.coefficients.clone()
        for rows in self.every():
            left[rows] -= here.project(self.views(rows), rows) * self.ctf[rows]
        return replace(self, coefficients=left)

    def minus(self, volume: Float[Tensor, "d d d"]) -> "FourierImages":
        projector = SliceProjector(volume)
        residuals = self.coefficients.clone()
        for rows in self.every():
            residuals[rows] -= projector.project(self.views(rows)) * self.ctf[rows]
        return replace(self, coefficients=residuals)


def checkerboard(images: FourierImages) -> tuple[FourierImages, FourierImages]:
    """The same images with every second Fourier coefficient, and with the others; the rest is zero, CTF included.

    White noise is independent between the two.
    """
    ky, kx = frequencies(images.box, images.device)
    even = ((ky + kx).round().long() % 2) == 0
    first, second = (
        replace(images, coefficients=images.coefficients * field, ctf=images.ctf * field) for field in (even, ~even)
    )
    return first, second


class SliceProjector:
    """Projections of one density [z, y, x] as central slices of its Fourier transform."""

    def __init__(self, volume: Float[Tensor, "d d d"]) -> None:
        self.plane = SlicePlane.of_box(volume.shape[-1], volume.device)
        coefficients = fourier_from_volume(volume).reshape(-1)
        self._table = torch.stack([coefficients.real, coefficients.imag], dim=1)

    @torch.no_grad()
    def project(self, views: Float[Tensor, "b 3 3"]) -> Complex[Tensor, "b d h"]:
        """P_i V on the half-plane, without CTF."""
        where = interpolate_slices(self.plane, views)
        return self.plane.put(extract_slices(self._table, where, 1)[..., 0])

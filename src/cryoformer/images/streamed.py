"""Particles on disk as :class:`Images`: in memory where they fit, else read batch by batch, ahead of the work.

What happens to an image between disk and loss is in :mod:`.preparation`. A data set that does not fit is read
from its stack at full box, and from a cache of half-planes in float16 at the coarse boxes, which are read many times.
"""

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from cryoformer.communication import ALONE, Processes
from cryoformer.device import usable_device
from cryoformer.images.fourier_images import FourierImages, Images, SliceProjector
from cryoformer.images.half_plane_file import HalfPlaneFile
from cryoformer.images.linear_motion import LinearMotion
from cryoformer.images.preparation import PreparedParticles
from cryoformer.images.settings import ImageSettings
from cryoformer.images.shard import Shard
from cryoformer.imaging.fourier import crop_fourier
from cryoformer.particles.particles import Particles
from cryoformer.particles.read_ahead import read_ahead
from cryoformer.particles.repeats import halves_together, image_numbers

logger = logging.getLogger(__name__)
# Bytes of a coefficient: image (8), CTF (4), and the image once more after a density was subtracted (8).
COEFFICIENT_BYTES = 20


@dataclass(frozen=True)
class StreamedImages(Images):
    """Images that are read when they are asked for.

    Attributes:
        prepared: where CTFs come from, and half-planes where there is no cache.
        cached: half-planes at a coarse box, or None.
        memory_bytes: what images in memory may take.
        cache: folder for caches.
        subtracted: a density that is subtracted from every image, or None.
        contrast: of every image here, as a factor of its CTF; None for 1.
        motion: what is taken off every image here, or None.
    """

    prepared: PreparedParticles
    cached: HalfPlaneFile | None
    memory_bytes: float
    cache: Path
    subtracted: SliceProjector | None = field(default=None, repr=False)
    contrast: Float[Tensor, " n"] | None = None
    motion: LinearMotion | None = field(default=None, repr=False)

    @property
    def box(self) -> int:
        return self.cached.box if self.cached else self.prepared.box

    def take(self, rows: Int[Tensor, " m"]) -> FourierImages:
        # What is made on the way to a CTF takes many times its size: never for more than a batch at once.
        return self._read(rows) if len(rows) <= self.batch else self._gathered(rows, self)

    @torch.no_grad()
    def _read(self, rows: Tensor) -> FourierImages:
        here = rows.cpu()
        coefficients = (self.cached or self.prepared).read(here).to(self.device)
        ctf = self._transfer(rows, self.box)
        if self.motion is not None:
            coefficients = coefficients - self.motion.project(self.views(rows), rows) * ctf
        if self.subtracted is not None:
            coefficients = coefficients - self.subtracted.project(self.views(rows)) * ctf
        return self._with(rows, coefficients, ctf)

    def _transfer(self, rows: Tensor, box: int) -> Float[Tensor, "b d h"]:
        ctf = self.prepared.transfer(rows.cpu(), box).to(self.device)
        return ctf if self.contrast is None else ctf * self.contrast[rows, None, None]

    def _gathered(self, rows: Tensor, facts: Images, progress: Callable[[int], None] | None = None) -> FourierImages:
        """These images in memory, at the box of ``facts``, from batches."""
        box = facts.box
        shape = (len(rows), box, box // 2 + 1)
        coefficients = torch.empty(shape, dtype=torch.complex64, device=self.device)
        ctf = torch.empty(shape, device=self.device)
        place = 0
        for some, images in self.batches(rows.split(self.batch)):
            here = slice(place, place + len(some))
            coefficients[here] = crop_fourier(images.coefficients, self.box, box)
            ctf[here] = images.ctf if box == self.box else self._transfer(some, box)
            place += len(some)
            if progress is not None:
                progress(len(some))
        return facts._with(rows, coefficients, ctf)

    def batches(self, rows: Iterable[Tensor]) -> Iterator[tuple[Tensor, FourierImages]]:
        """Batches in this order, the next ones read while the work on one goes on."""
        return read_ahead(self.take, (some for some in rows if len(some)))

    def crop(self, box: int) -> Images:
        if box == self.box:
            return self
        if self.subtracted is not None:
            raise ValueError("crop before a density is subtracted")
        smaller = replace(
            self,
            cached=HalfPlaneFile(self.cache / f"half_planes_{box}.f16", len(self), box),
            noise_power=self.noise_power[: box // 2 + 1],
            pixel_size_angstrom=self.pixel_size_angstrom * self.box / box,
            motion=None,
        )
        if in_memory_bytes(len(self), box) <= self.memory_bytes:
            return replace(self._gathered(self._all(), smaller), shard=self.shard)
        assert smaller.cached is not None
        if not smaller.cached.path.exists():
            # What is on disk are the images as they are.
            batches = replace(self, motion=None).batches(self.every())
            smaller.cached.write(crop_fourier(images.coefficients, self.box, box).cpu() for _, images in batches)
        return smaller if self.motion is None else replace(smaller, motion=self.motion.crop(box))

    def with_contrast(self, contrast: Float[Tensor, " m"]) -> "StreamedImages":
        here = contrast[self.part.start : self.part.stop]
        return replace(self, contrast=here if self.contrast is None else self.contrast * here)

    def minus_motion(self, motion: LinearMotion) -> "StreamedImages":
        here = motion.of(slice(self.part.start, self.part.stop))
        return replace(self, motion=(here if self.motion is None else self.motion.plus(here)).ready())

    def minus(self, volume: Float[Tensor, "d d d"]) -> "StreamedImages":
        return replace(self, subtracted=SliceProjector(volume))

    def _all(self) -> Tensor:
        return torch.arange(len(self), device=self.device)


def in_memory_bytes(count: int, box: int) -> int:
    """Memory that images take, with the residuals that are made of them."""
    return count * box * (box // 2 + 1) * COEFFICIENT_BYTES


def prepare_images(
    particles: Particles,
    cache: Path,
    settings: ImageSettings,
    progress: Callable[[int], None] | None = None,
    processes: Processes = ALONE,
) -> Images:
    """All images of a data set, in memory if they fit into what settings allow, else read from disk when they are used.

    Args:
        cache: folder for half-planes at coarse boxes; emptied first.
        settings: how they are read; its seed draws the halves, where the particle file has none.
        progress: called with the number of images of every batch that was read.
        processes: share the images; each reads its own, and its memory is its own.

    Raises:
        InputError: an image that cannot be normalised, or a device that is not there.
    """
    shutil.rmtree(cache, ignore_errors=True)
    numbers = image_numbers(particles)
    shard = Shard.dealt(len(particles), processes).with_repeats(torch.from_numpy(numbers))
    prepared = PreparedParticles(particles, settings, shard)
    box, device = prepared.box, usable_device(settings.device)
    images = StreamedImages(
        rotations=torch.from_numpy(prepared.particles.rotations.astype(np.float32)).to(device),
        scale=prepared.scale.to(device),
        halves=_halves(particles.half_set, numbers, settings.seed)[shard.start : shard.stop].to(device),
        # After normalisation the background is white noise of unit variance, so far as is known yet.
        noise_power=torch.full((box // 2 + 1,), float(box**2), device=device),
        pixel_size_angstrom=prepared.pixel_size_angstrom,
        voxel_angstrom=prepared.pixel_size_angstrom,
        prepared=prepared,
        cached=None,
        memory_bytes=settings.memory_gib * 2**30,
        cache=cache,
        noise_kept=prepared.noise_kept,
        shard=None if processes.size == 1 and shard.repeats is None else shard,
    )
    if in_memory_bytes(len(images), box) <= images.memory_bytes:
        return replace(images._gathered(images._all(), images, progress), shard=images.shard)
    gib = in_memory_bytes(len(images), box) / 2**30
    logger.info("images are read from disk as they are used: in memory they would take %.1f GiB", gib)
    return images


def _halves(half_set: Integer[np.ndarray, " n"] | None, images: Int[np.ndarray, " n"], seed: int) -> Int[Tensor, " n"]:
    """Those of the file, or drawn; rows of one image are in one half."""
    if half_set is not None and len(np.unique(half_set)) == 2:
        return torch.from_numpy(halves_together(half_set, images).astype(np.int64) - 1)
    order = torch.randperm(int(images.max()) + 1, generator=torch.Generator().manual_seed(seed + 2))
    return order[torch.from_numpy(images)] % 2

"""Particles on disk as :class:`Images`: in memory where they fit, else read batch by batch, ahead of the work.

What happens to an image between disk and loss: background normalisation, contrast sign, Fourier transform, the shift
of its particle taken out, the box that all share, and the CTF of its own optics. A data set that does not fit is read
from its stack at full box, and from a cache of half-planes in float16 at the coarse boxes, which are read many times.
"""

import logging
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryoformer.imaging.ctf import contrast_transfer
from cryoformer.imaging.fourier import crop_fourier, images_to_fourier, shift_phases
from cryoformer.particles.particles import Particles
from cryoformer.particles.preprocess import detect_sign, normalise_background
from cryoformer.reconstruct.half_plane_file import HalfPlaneFile
from cryoformer.reconstruct.images import FourierImages, Images, SliceProjector

logger = logging.getLogger(__name__)
CHUNK = 512
AHEAD = 2  # batches
# Images multiplied by their CTF are divided by it again, but where it is smaller than this they hold nothing.
LEAST_CTF = 0.05
# Bytes of a coefficient: image (8), CTF (4), and the image once more after a density was subtracted (8).
COEFFICIENT_BYTES = 20


class PreparedParticles:
    """Half-planes and CTFs of any particles, at the one box and pixel size that all images are brought to.

    Optics groups with larger boxes are Fourier-cropped to the smallest. The pixel sizes that then remain different
    are met by scale: see :attr:`Images.rotations`.
    """

    def __init__(self, particles: Particles, invert: str) -> None:
        self.particles = particles
        self.box = particles.box - particles.box % 2
        pixel_sizes = particles.pixel_sizes_angstrom * particles.boxes / self.box
        self.pixel_size_angstrom = float(pixel_sizes.min())
        self.mixed = bool(np.ptp(pixel_sizes) > 1e-5 * self.pixel_size_angstrom)
        self.pixel_sizes = torch.from_numpy(pixel_sizes.astype(np.float32))
        # Same dose per area: the signal of a particle is spread over fewer, less noisy pixels if these are large.
        self.scale = self.pixel_size_angstrom / self.pixel_sizes if self.mixed else torch.ones(len(particles))
        self.shifts = torch.from_numpy(particles.shifts_angstrom.astype(np.float32))
        self.premultiplied = torch.from_numpy(particles.premultiplied)
        self.sign = choose_sign(particles, invert)
        for fact in self._facts():
            logger.info("%s: %s", particles.source, fact)

    def _facts(self) -> Iterator[str]:
        boxes, sizes = np.unique(self.particles.boxes), self.particles.pixel_sizes_angstrom
        if len(boxes) > 1 or boxes[0] != self.box:
            yield f"images of {', '.join(map(str, boxes))} pixels, Fourier-cropped to {self.box}"
        if self.mixed:
            yield (
                f"pixel sizes from {sizes.min():.4g} to {sizes.max():.4g} A: every image is used at its own; "
                f"densities have {self.pixel_size_angstrom:.4g} A"
            )
        if self.premultiplied.any():
            count = int(self.premultiplied.sum())
            yield f"{count} images were multiplied by their CTF; they are divided by it again"

    def transfer(self, rows: Int[Tensor, " b"], box: int) -> Float[Tensor, "b d h"]:
        """CTFs at a box; 0 where a premultiplied image holds nothing."""
        sizes = (self.pixel_sizes[rows] if self.mixed else self.pixel_size_angstrom) * (self.box / box)
        ctf = contrast_transfer(self.particles.ctf[rows], box, sizes)
        ctf = torch.where(self.premultiplied[rows, None, None] & (ctf.abs() < LEAST_CTF), 0.0, ctf)
        return ctf * self.scale[rows, None, None] if self.mixed else ctf

    def read(self, rows: Int[Tensor, " b"]) -> Complex[Tensor, "b d h"]:
        """Half-planes at the full box, straight from the stack."""
        numbers = rows.numpy()
        result = torch.empty(len(rows), self.box, self.box // 2 + 1, dtype=torch.complex64)
        for places in self.particles.require_stacks().by_box(numbers):
            images, _, _ = normalise_background(self.particles.images(numbers[places]))
            half_planes = images_to_fourier(self.sign * torch.from_numpy(images))
            result[places] = crop_fourier(half_planes, images.shape[-1], self.box)
        if self.mixed:
            # In pixels, because the pixel size differs from image to image.
            result *= shift_phases(-self.shifts[rows] / self.pixel_sizes[rows, None], self.box, 1.0)
        else:
            result *= shift_phases(-self.shifts[rows], self.box, self.pixel_size_angstrom)
        done = self.premultiplied[rows]
        if done.any():
            result[done] = _divide(
                result[done], self.transfer(rows[done], self.box) / self.scale[rows[done], None, None]
            )
        return result


def _divide(half_planes: Complex[Tensor, "b d h"], ctf: Float[Tensor, "b d h"]) -> Complex[Tensor, "b d h"]:
    """Premultiplied images before the multiplication; their noise is brought to unit variance again."""
    deviation = ctf.square().mean(dim=(1, 2), keepdim=True).sqrt()
    return torch.where(ctf == 0, 0.0, half_planes / torch.where(ctf == 0, 1.0, ctf)) * deviation


def choose_sign(particles: Particles, invert: str) -> int:
    """+1 to use the images as they are, -1 to invert them: ``invert`` is "auto", "yes" or "no"."""
    if invert != "auto":
        return -1 if invert == "yes" else 1
    found = detect_sign(particles)
    logger.info(found.reason)
    if found.certain and particles.declared_sign not in (None, found.sign):
        logger.warning("%s: the file says the opposite of the contrast; the images decide", particles.source)
    if not found.certain and particles.declared_sign is not None:
        logger.info("%s: the contrast is taken from the file", particles.source)
        return particles.declared_sign
    return found.sign


@dataclass(frozen=True)
class StreamedImages(Images):
    """Images that are read when they are asked for.

    Attributes:
        prepared: where CTFs come from, and half-planes where there is no cache.
        cached: half-planes at a coarse box, or None.
        memory_bytes: what images in memory may take.
        cache: folder for caches.
        base: a density that is subtracted from every image, or None.
    """

    prepared: PreparedParticles
    cached: HalfPlaneFile | None
    memory_bytes: float
    cache: Path
    base: SliceProjector | None = field(default=None, repr=False)

    @property
    def box(self) -> int:
        return self.cached.box if self.cached else self.prepared.box

    @torch.no_grad()
    def take(self, rows: Int[Tensor, " m"]) -> FourierImages:
        here = rows.cpu()
        coefficients = (self.cached or self.prepared).read(here)
        taken = FourierImages(
            rotations=self.rotations[rows],
            halves=self.halves[rows],
            noise_power=self.noise_power,
            pixel_size_angstrom=self.pixel_size_angstrom,
            voxel_angstrom=self.voxel_angstrom,
            coefficients=coefficients.to(self.device),
            ctf=self.prepared.transfer(here, self.box).to(self.device),
        )
        if self.base is None:
            return taken
        predicted = self.base.project(taken.rotations) * taken.ctf
        return replace(taken, coefficients=taken.coefficients - predicted)

    def batches(self, rows: Iterable[Tensor]) -> Iterator[tuple[Tensor, FourierImages]]:
        """Batches in this order, the next ones read while the work on one goes on."""
        coming = iter(rows)
        with ThreadPoolExecutor(1, thread_name_prefix="images") as pool:
            ahead: deque[tuple[Tensor, Future[FourierImages]]] = deque()
            try:
                ahead.extend((some, pool.submit(self.take, some)) for some in islice(coming, AHEAD))
                while ahead:
                    some, images = ahead.popleft()
                    yield some, images.result()
                    ahead.extend((more, pool.submit(self.take, more)) for more in islice(coming, 1))
            finally:
                # The consumer may stop early: nothing more is read then.
                pool.shutdown(wait=False, cancel_futures=True)

    def crop(self, box: int) -> Images:
        if box == self.box:
            return self
        if self.base is not None:
            raise ValueError("crop before a density is subtracted")
        smaller = replace(
            self,
            noise_power=self.noise_power[: box // 2 + 1],
            pixel_size_angstrom=self.pixel_size_angstrom * self.box / box,
        )
        if in_memory_bytes(len(self), box) <= self.memory_bytes:
            return self._in_memory(box, smaller)
        path = self.cache / f"half_planes_{box}.f16"
        cached = HalfPlaneFile(path, len(self), box)
        if not path.exists():
            cached.write(crop_fourier(images.coefficients, self.box, box).cpu() for _, images in self._in_order())
        return replace(smaller, cached=cached)

    def minus(self, volume: Float[Tensor, "d d d"]) -> "StreamedImages":
        return replace(self, base=SliceProjector(volume))

    def _in_order(self) -> Iterator[tuple[Tensor, FourierImages]]:
        return self.batches(self.every(CHUNK))

    def _in_memory(self, box: int, facts: Images, progress: Callable[[int], None] | None = None) -> FourierImages:
        shape = (len(self), box, box // 2 + 1)
        coefficients = torch.empty(shape, dtype=torch.complex64, device=self.device)
        ctf = torch.empty(shape, device=self.device)
        for rows, images in self._in_order():
            coefficients[rows] = crop_fourier(images.coefficients, self.box, box)
            ctf[rows] = self.prepared.transfer(rows.cpu(), box).to(self.device)
            if progress is not None:
                progress(len(rows))
        return FourierImages(
            rotations=self.rotations,
            halves=self.halves,
            noise_power=facts.noise_power,
            pixel_size_angstrom=facts.pixel_size_angstrom,
            voxel_angstrom=facts.voxel_angstrom,
            coefficients=coefficients,
            ctf=ctf,
        )


def in_memory_bytes(count: int, box: int) -> int:
    """Memory that images take, with the residuals that are made of them."""
    return count * box * (box // 2 + 1) * COEFFICIENT_BYTES


def prepare_images(
    particles: Particles,
    cache: Path,
    invert: str = "auto",
    memory_gib: float = 2.0,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Images:
    """All images of a data set, in memory if they fit into ``memory_gib``, else read from disk when they are used.

    Args:
        cache: folder for half-planes at coarse boxes; emptied first.
        seed: of the halves, where the particle file has none.

    Raises:
        InputError: an image that cannot be normalised.
    """
    shutil.rmtree(cache, ignore_errors=True)
    prepared = PreparedParticles(particles, invert)
    box = prepared.box
    rotations = torch.from_numpy(particles.rotations.astype(np.float32)) * prepared.scale[:, None, None]
    images = StreamedImages(
        rotations=rotations.to(device),
        halves=_halves(particles, seed).to(device),
        # After normalisation the background is white noise of unit variance, so far as is known yet.
        noise_power=torch.full((box // 2 + 1,), float(box**2), device=device),
        pixel_size_angstrom=prepared.pixel_size_angstrom,
        voxel_angstrom=prepared.pixel_size_angstrom,
        prepared=prepared,
        cached=None,
        memory_bytes=memory_gib * 2**30,
        cache=cache,
    )
    if in_memory_bytes(len(images), box) <= images.memory_bytes:
        return images._in_memory(box, images, progress)
    gib = in_memory_bytes(len(images), box) / 2**30
    logger.info("images are read from disk as they are used: in memory they would take %.1f GiB", gib)
    return images


def _halves(particles: Particles, seed: int) -> Int[Tensor, " n"]:
    if particles.half_set is not None and len(np.unique(particles.half_set)) == 2:
        return torch.from_numpy(particles.half_set.astype(np.int64) - 1)
    order = torch.randperm(len(particles), generator=torch.Generator().manual_seed(seed + 2))
    return order % 2

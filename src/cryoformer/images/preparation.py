"""What happens to an image between disk and loss.

Background normalisation, contrast sign, soft edges where those of the images jump (:mod:`cryoformer.imaging.edges`),
Fourier transform, the box that all images share, the shift of the particle taken out, whatever was done to it with its
CTF undone; and that CTF, of the image's own optics. What the data are taken for is said in one line each, and each can
be set by the user.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Complex, Float, Float32, Int
from torch import Tensor

from cryoformer.communication import ALONE
from cryoformer.images.settings import ImageSettings
from cryoformer.images.shard import Shard
from cryoformer.imaging.background import background_mask, normalise_background
from cryoformer.imaging.ctf import contrast_transfer
from cryoformer.imaging.edges import OUTWEIGHED, edge_jumps, power_kept, soft_edges
from cryoformer.imaging.fourier import crop_fourier, images_to_fourier, shift_phases
from cryoformer.particles.contrast import detect_sign
from cryoformer.particles.particles import Particles

logger = logging.getLogger(__name__)

# Images multiplied by their CTF are divided by it again, but where it is smaller than this they hold nothing.
LEAST_CTF = 0.05
# Images that are looked at to say what the data are, and pixels in all, but for the least number.
SAMPLE, SAMPLE_PIXELS, LEAST_SAMPLE = 256, 2**23, 32


class PreparedParticles:
    """Half-planes and CTFs of any particles, at the one box and pixel size that all images are brought to.

    Optics groups with larger boxes are Fourier-cropped to the smallest. The pixel sizes that then remain different
    are met by scale: see :attr:`Images.scale`.

    Args:
        settings: contrast, normalisation, and what was done to the images with their CTF.
        shard: those that are prepared here; box, pixel size and contrast are those of all.
    """

    def __init__(self, particles: Particles, settings: ImageSettings, shard: Shard | None = None) -> None:
        ctf_applied = settings.ctf_applied
        if ctf_applied != "auto":
            particles = replace(particles, premultiplied=np.full(len(particles), ctf_applied == "multiplied"))
        self.particles = particles
        self.normalise, self.phases_flipped = settings.normalise, ctf_applied == "phases"
        self.box = particles.box - particles.box % 2
        pixel_sizes = particles.pixel_sizes_angstrom * particles.boxes / self.box
        self.pixel_size_angstrom = float(pixel_sizes.min())
        self.mixed = bool(np.ptp(pixel_sizes) > 1e-5 * self.pixel_size_angstrom)
        self.pixel_sizes = torch.from_numpy(pixel_sizes.astype(np.float32))
        # Same dose per area: the signal of a particle is spread over fewer, less noisy pixels if these are large.
        self.scale = self.pixel_size_angstrom / self.pixel_sizes if self.mixed else torch.ones(len(particles))
        self.shifts = torch.from_numpy(particles.shifts_angstrom.astype(np.float32))
        self.premultiplied = torch.from_numpy(particles.premultiplied)
        processes = ALONE if shard is None else shard.processes
        self.sign = processes.on_first(lambda: choose_sign(particles, settings.invert))
        self.jumps, self.soft = processes.on_first(lambda: self._choose_edges(settings.soft_edges))
        for fact in self._facts() if processes.first else ():
            logger.info("%s: %s", particles.source, fact)
        if processes.size > 1:
            assert shard is not None
            self._keep(slice(shard.start, shard.stop))

    def _keep(self, rows: slice) -> None:
        """Forget the images of other processes."""
        self.particles = self.particles.subset(np.arange(len(self.particles))[rows])
        self.pixel_sizes, self.scale = self.pixel_sizes[rows], self.scale[rows]
        self.shifts, self.premultiplied = self.shifts[rows], self.premultiplied[rows]

    def _facts(self) -> Iterator[str]:
        boxes, sizes = np.unique(self.particles.boxes), self.particles.pixel_sizes_angstrom
        if len(boxes) > 1 or boxes[0] != self.box:
            yield f"images of {', '.join(map(str, boxes))} pixels, Fourier-cropped to {self.box}"
        if self.mixed:
            yield (
                f"pixel sizes from {sizes.min():.4g} to {sizes.max():.4g} A: every image is used at its own; "
                f"densities have {self.pixel_size_angstrom:.4g} A"
            )
        yield self._background() + (
            "; every image is normalised (--normalise no uses them as they are)" if self.normalise else "; used as is"
        )
        if self.soft:
            yield self.jumps + "they are made to end softly (--soft-edges no leaves them as they are)"
        count = int(self.premultiplied.sum())
        if self.phases_flipped:
            yield "the images' phases were flipped by their CTF; they are flipped back"
        elif count:
            yield f"{count} images were multiplied by their CTF; they are divided by it again (--ctf-applied overrides)"
        else:
            yield "images are taken as not corrected for their CTF (--ctf-applied overrides)"

    def _background(self) -> str:
        """Mean and standard deviation outside the particles, as a sentence."""
        outside = self._sample()[:, background_mask(int(self.particles.boxes[0]))]
        mean, deviation = np.median(outside.mean(axis=1)), np.median(outside.std(axis=1))
        count = len(outside)
        return f"background of the images: mean {mean:.3g}, standard deviation {deviation:.3g} (medians of {count})"

    def _sample(self) -> Float32[np.ndarray, "b d d"]:
        """Some images of one box, as they are on disk."""
        of_one_box = np.flatnonzero(self.particles.boxes == self.particles.boxes[0])
        fit = max(LEAST_SAMPLE, SAMPLE_PIXELS // int(self.particles.boxes[0]) ** 2)
        count = min(SAMPLE, fit, len(of_one_box))
        return self.particles.images(of_one_box[np.linspace(0, len(of_one_box) - 1, count).round().astype(np.int64)])

    def _choose_edges(self, asked: str) -> tuple[str, bool]:
        """What is to be said of the images' edges, and whether they are made soft: "auto" asks the images."""
        if asked != "auto":
            return "", asked == "yes"
        sample = self._sample()
        ratio, shell = edge_jumps(torch.from_numpy(normalise_background(sample)[0] if self.normalise else sample))
        if ratio < OUTWEIGHED:
            return "", False
        detail = float(self.particles.boxes[0] * self.particles.pixel_sizes_angstrom[0]) / shell
        return f"jumps at the edges of images hold {ratio:.0f} times the power of all else at {detail:.3g} A; ", True

    @property
    def noise_kept(self) -> float:
        """The share of the power of noise that the edges leave."""
        return power_kept(self.box) if self.soft else 1.0

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
            images = self.particles.images(numbers[places])
            if self.normalise:
                images, _, _ = normalise_background(images)
            pixels = self.sign * torch.from_numpy(images)
            if self.soft:
                pixels = pixels * soft_edges(pixels.shape[-1])
            half_planes = images_to_fourier(pixels)
            result[places] = crop_fourier(half_planes, images.shape[-1], self.box)
        if self.mixed:
            # In pixels, because the pixel size differs from image to image.
            result *= shift_phases(-self.shifts[rows] / self.pixel_sizes[rows, None], self.box, 1.0)
        else:
            result *= shift_phases(-self.shifts[rows], self.box, self.pixel_size_angstrom)
        if self.phases_flipped:
            result *= torch.where(self.transfer(rows, self.box) < 0, -1.0, 1.0)
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

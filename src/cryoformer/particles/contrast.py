"""Which way round the contrast of particles is, as the images say."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from cryoformer.imaging.ctf import CTFParameters, contrast_transfer
from cryoformer.imaging.fourier import half_plane_weights, images_to_fourier, shift_phases
from cryoformer.particles.particles import Particles

# Below this the two signs cannot be told apart (a two-sided chance of 0.3 %).
CERTAIN_Z = 3.0


@dataclass(frozen=True)
class ContrastSign:
    """Which way round the images are: ``sign`` is +1 for white particles (our convention) and -1 for dark ones.

    ``z`` is the evidence in standard errors (positive: white), ``reason`` a sentence for the log.
    """

    sign: int
    z: float
    reason: str

    @property
    def certain(self) -> bool:
        return abs(self.z) >= CERTAIN_Z


def detect_sign(particles: Particles, sample: int = 512) -> ContrastSign:
    """Contrast of a data set, from at most ``sample`` images spread evenly over it (fewer of large ones)."""
    of_one_box = np.flatnonzero(particles.boxes == particles.boxes[0])
    count = min(sample, max(32, 2**23 // particles.box**2), len(of_one_box))
    some = particles.subset(of_one_box[np.linspace(0, len(of_one_box) - 1, count).round().astype(np.int64)])
    images = some.images(np.arange(len(some)))
    return contrast_sign(images, some.ctf, some.pixel_sizes_angstrom, some.shifts_angstrom, some.premultiplied)


def contrast_sign(
    images: Float32[np.ndarray, "b d d"],
    ctf: CTFParameters,
    pixel_sizes_angstrom: Float[np.ndarray, " b"],
    shifts_angstrom: Float[np.ndarray, "b 2"] | None = None,
    premultiplied: Bool[np.ndarray, " b"] | None = None,
) -> ContrastSign:
    """Contrast of some images, by correlation with what a featureless white particle would look like.

    Each image is compared with a Gaussian blob (sigma a sixth of the box) that is seen through the image's own CTF and
    sits where the particle sits. That uses the frequencies that carry the particle's shape, with the sign that the
    CTF gives each of them; the mean, which depends on the background alone, does not count. The sign is that of the
    mean correlation, and its standard error comes from the spread over the images, so coloured noise is
    accounted for.
    """
    box = images.shape[-1]
    offset = np.arange(box, dtype=np.float32) - box // 2
    blob = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * (box / 6) ** 2)).astype(np.float32)
    pixel_sizes = torch.from_numpy(pixel_sizes_angstrom.astype(np.float32))
    transfer = contrast_transfer(ctf, box, pixel_sizes)
    if premultiplied is not None:
        transfer = torch.where(torch.from_numpy(premultiplied)[:, None, None], transfer.square(), transfer)
    expected = images_to_fourier(torch.from_numpy(blob))[None] * transfer
    if shifts_angstrom is not None:
        # In pixels, because the pixel size may differ from image to image.
        expected = expected * shift_phases(torch.from_numpy(shifts_angstrom / pixel_sizes_angstrom[:, None]), box, 1.0)
    expected[..., 0, 0] = 0
    found = images_to_fourier(torch.from_numpy(images))
    weights = half_plane_weights(box)
    correlation = ((expected.conj() * found).real * weights).sum(dim=(-2, -1)).numpy().astype(np.float64)
    correlation /= np.maximum(images.std(axis=(1, 2)), np.finfo(np.float32).tiny)
    spread = correlation.std(ddof=1) / np.sqrt(len(correlation)) if len(correlation) > 1 else 0.0
    z = float(correlation.mean() / spread) if spread > 0 else 0.0
    sign = -1 if z < 0 else 1
    return ContrastSign(sign, z, _reason(sign, z, len(images)))


def _reason(sign: int, z: float, count: int) -> str:
    which = "white on dark" if sign > 0 else "dark on light"
    if abs(z) < CERTAIN_Z:
        return (
            f"the contrast of the particles is unclear (most likely {which}, {abs(z):.1f} standard errors in {count} "
            "images); say which it is with --invert yes (dark particles) or --invert no (white particles)"
        )
    done = "used as they are" if sign > 0 else "so the images are inverted"
    return f"particles are {which}, {done} ({abs(z):.1f} standard errors in {count} images; --invert overrides this)"

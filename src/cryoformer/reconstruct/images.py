"""Images ready for reconstruction: normalised, right way round, centred, on the Fourier half-plane, with their CTF.

Poses are fixed here, so the shift of each particle is taken out once, by a phase factor, and projections need
rotations only.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryoformer.errors import InputError
from cryoformer.imaging.ctf import contrast_transfer
from cryoformer.imaging.fourier import crop_fourier, images_to_fourier, shells, shift_phases
from cryoformer.particles.particles import Particles
from cryoformer.particles.preprocess import detect_sign, normalise_background

logger = logging.getLogger(__name__)
CHUNK = 512


@dataclass(frozen=True)
class FourierImages:
    """n centred images on the half-plane of one box.

    Attributes:
        coefficients: Y_i, plain sums of normalised pixels (see :mod:`cryoformer.imaging.fourier`).
        ctf: C_i on the same half-plane.
        rotations: R_i.
        noise_power: variance of the noise per shell 0 .. D / 2, in units of |Y|^2.
        pixel_size_angstrom: of this box.
        voxel_angstrom: the pixel size that densities refer to (that of the full box, whatever was cropped).
    """

    coefficients: Complex[Tensor, "n d h"]
    ctf: Float[Tensor, "n d h"]
    rotations: Float[Tensor, "n 3 3"]
    noise_power: Float[Tensor, " s"]
    pixel_size_angstrom: float
    voxel_angstrom: float

    def __len__(self) -> int:
        return len(self.rotations)

    @property
    def box(self) -> int:
        return self.coefficients.shape[-2]

    @property
    def device(self) -> torch.device:
        return self.coefficients.device

    def crop(self, box: int) -> "FourierImages":
        """The same images in a smaller box: the same coefficients, fewer of them."""
        if box == self.box:
            return self
        return replace(
            self,
            coefficients=crop_fourier(self.coefficients, self.box, box),
            ctf=crop_fourier(self.ctf.to(torch.complex64), self.box, box).real.contiguous(),
            noise_power=self.noise_power[: box // 2 + 1],
            pixel_size_angstrom=self.pixel_size_angstrom * self.box / box,
        )

    def subset(self, rows: Int[Tensor, " m"]) -> "FourierImages":
        """These images alone."""
        return replace(self, coefficients=self.coefficients[rows], ctf=self.ctf[rows], rotations=self.rotations[rows])

    def noise_deviation(self) -> Float[Tensor, "d h"]:
        """Standard deviation of the noise at every coefficient of the half-plane."""
        return self.noise_power[shells(self.box, self.device).clamp(max=self.box // 2)].sqrt()


def choose_sign(particles: Particles, invert: str) -> int:
    """+1 to use the images as they are, -1 to invert them: ``invert`` is "auto", "yes" or "no"."""
    if invert != "auto":
        return -1 if invert == "yes" else 1
    found = detect_sign(particles)
    logger.info(found.reason)
    return found.sign


def prepare_images(
    particles: Particles,
    invert: str = "auto",
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> FourierImages:
    """Read all images once and bring them to the half-plane.

    Raises:
        InputError: pixel sizes that differ between optics groups, an odd box, or an image that cannot be normalised.
    """
    pixel_size, box = particles.pixel_size_angstrom, particles.box
    if np.ptp(particles.pixel_sizes_angstrom) > 1e-3 * pixel_size:
        raise InputError(
            f"{particles.source}: pixel sizes from {particles.pixel_sizes_angstrom.min():.4f} to "
            f"{particles.pixel_sizes_angstrom.max():.4f} A in one file: expected one size; train on one optics group "
            "at a time or rescale the images to one pixel size"
        )
    if box % 2:
        raise InputError(f"{particles.source}: odd box of {box} pixels: expected an even one; re-extract or crop it")
    n = len(particles)
    coefficients = torch.empty(n, box, box // 2 + 1, dtype=torch.complex64)
    ctf = torch.empty(n, box, box // 2 + 1)
    sign = choose_sign(particles, invert)
    shifts = torch.from_numpy(particles.shifts_angstrom.astype(np.float32))
    for start in range(0, n, CHUNK):
        rows = np.arange(start, min(start + CHUNK, n))
        images, _, _ = normalise_background(particles.images(rows))
        centred = shift_phases(-shifts[rows], box, pixel_size)
        coefficients[rows] = images_to_fourier(sign * torch.from_numpy(images)) * centred
        ctf[rows] = contrast_transfer(particles.ctf[torch.from_numpy(rows)], box, pixel_size)
        if progress is not None:
            progress(len(rows))
    return FourierImages(
        coefficients=coefficients.to(device),
        ctf=ctf.to(device),
        rotations=torch.from_numpy(particles.rotations.astype(np.float32)).to(device),
        # After normalisation the background is white noise of unit variance, so far as is known yet.
        noise_power=torch.full((box // 2 + 1,), float(box**2), device=device),
        pixel_size_angstrom=pixel_size,
        voxel_angstrom=pixel_size,
    )

r"""Images of nothing but a still density and noise: what the particles would be if nothing moved.

    Y_i = C_i P_i V + n_i

with the rotations R_i and CTFs C_i of the real images, and noise n_i that is Gaussian and has their noise power per
shell.
"""

from dataclasses import replace

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoformer.images.fourier_images import FourierImages, SliceProjector


def null_images(images: FourierImages, density: Float[Tensor, "d d d"] | None, seed: int) -> FourierImages:
    """As many images as the real ones, of this density [z, y, x] at their box; None: of noise alone."""
    simulated = coloured_noise(images, seed)
    if density is not None:
        projector = SliceProjector(density)
        for rows in images.every():
            simulated[rows] += projector.project(images.views(rows)) * images.ctf[rows]
    return replace(images, coefficients=simulated, noise_kept=1.0)


def coloured_noise(images: FourierImages, seed: int) -> Complex[Tensor, "n d h"]:
    """Half-planes of Gaussian noise with the noise power of these images."""
    generator = torch.Generator().manual_seed(seed)
    deviation, box = images.noise_deviation(), images.box
    noise = torch.empty_like(images.coefficients)
    for rows in images.every():
        # The transform of a real image has a half-plane's symmetry; white pixels have power D^2 after it.
        white = torch.randn(len(rows), box, box, generator=generator).to(images.device)
        noise[rows] = torch.fft.rfft2(white) / box * deviation
    return noise

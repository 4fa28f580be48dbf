r"""The noise of images before anything is known of their particles: the spectrum of what lies around these.

Outside a circle an image holds noise alone (and neighbours, which count as noise). Multiplied by a soft mask w, white
noise of variance s^2 has the power s^2 sum w^2 at every frequency, and other noise very nearly its own spectrum. The
mask ends softly at the border of the image as well: noise is not periodic, and where it falls by a factor of thousands
with frequency, as in images that were smoothed, a hard edge would spill the low frequencies over all others.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.images.fourier_images import FourierImages, Images
from cryoformer.imaging.fourier import fourier_to_images, images_to_fourier, radial_mean

SAMPLE = 2000
RADIUS, BORDER = 0.34, 0.1  # of the box


def background_power(images: Images) -> Float[Tensor, " s"]:
    """Variance of the noise per shell 0 .. D / 2, in units of |Y|^2, of images that are not shifted."""
    rows = torch.linspace(0, len(images) - 1, min(SAMPLE, len(images)), device=images.device).round().long()
    box, total = images.box, torch.zeros(images.box, images.box // 2 + 1, device=images.device)
    mask = _outside(box).to(images.device)
    for _, some in images.batches(rows.split(images.batch)):
        total += _masked_power(some, mask)
    power = radial_mean(total / len(rows), box) * box**2 / mask.square().sum()
    # The Nyquist frequency was cropped away; the mean was subtracted, and the mask knows little of the first shell.
    power[-1], power[0] = power[-2], power[1]
    return power


def _masked_power(images: FourierImages, mask: Float[Tensor, "d d"]) -> Float[Tensor, "d h"]:
    pixels = fourier_to_images(images.coefficients, images.box)
    return images_to_fourier(pixels * mask).abs().square().sum(dim=0)


def _outside(box: int) -> Float[Tensor, "d d"]:
    x = (torch.arange(box) - box // 2).float()
    radius = torch.hypot(*torch.meshgrid(x, x, indexing="ij"))
    border = torch.sin(torch.pi / 2 * ((box // 2 - x.abs()) / (BORDER * box)).clamp(0, 1)).square()
    return torch.sigmoid((radius - RADIUS * box) * 48 / box) * torch.outer(border, border)

r"""The noise of images before anything is known of their particles: the spectrum of what lies around these.

Outside a circle an image holds noise alone (and neighbours, which count as noise). Multiplied by a soft mask w, white
noise of variance s^2 has the power s^2 sum w^2 at every frequency. Noise of real images is anything but white: where
they were smoothed it falls by a factor of ten thousand. Any edge, that of the mask or that of the image, which does
not go on periodically, then spills low frequencies over all others. So images end softly at their border, are made
white by their own spectrum before the mask, and what the mask leaves is made coloured again.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoformer.images.fourier_images import Images
from cryoformer.imaging.edges import soft_edges
from cryoformer.imaging.fourier import fourier_to_images, images_to_fourier, radial_mean, shells

SAMPLE = 2000
RADIUS, BORDER = 0.32, 0.2  # of the box


def background_power(images: Images) -> Float[Tensor, " s"]:
    """Variance of the noise per shell 0 .. D / 2, in units of |Y|^2, of images that are not shifted."""
    box = images.box
    border, outside = (each.to(images.device) for each in (soft_edges(box, BORDER), _outside(box)))
    seen = outside * border
    if images.noise_kept < 1:
        seen = seen * soft_edges(box).to(images.device)
    total = _mean_power(images, border)
    white = total[shells(box, images.device).clamp(max=box // 2)].clamp_min(1e-12).sqrt()
    share = _mean_power(images, border, white, outside) * box**2 / seen.square().sum()
    power = share * total
    # The Nyquist frequency was cropped away; the mean was subtracted, and the mask knows little of the first shell.
    power[-1], power[0] = power[-2], power[1]
    return power


def particle_radius(images: Images) -> float:
    """How large particles are, as a share of the box: where the mean of all images, by radius, falls below 0.

    Images of any view count, centred well or not. What the CTF does to them draws a dark ring about a particle.
    """
    rows = torch.linspace(0, len(images) - 1, min(SAMPLE, len(images)), device=images.device).round().long()
    box, total = images.box, torch.zeros(images.box, images.box // 2 + 1, dtype=torch.complex64, device=images.device)
    for _, some in images.batches(rows.split(images.batch)):
        total += some.coefficients.sum(dim=0)
    mean = fourier_to_images(total, box).cpu()
    ring = _radius(box).round().long().reshape(-1)
    profile = torch.zeros(box).index_add_(0, ring, mean.reshape(-1)) / torch.bincount(ring, minlength=box).clamp_min(1)
    below = (profile[: box // 2] <= 0).nonzero()
    if len(below) == 0 or int(below[0]) == 0:
        return 0.5
    first = int(below[0])
    return (first - float(profile[first] / (profile[first] - profile[first - 1]).clamp_max(-1e-12))) / box


def _mean_power(
    images: Images,
    border: Float[Tensor, "d d"],
    white: Float[Tensor, "d h"] | None = None,
    mask: Float[Tensor, "d d"] | None = None,
) -> Float[Tensor, " s"]:
    """Mean |Y|^2 per shell of a sample of images that end softly; made white, then masked, if these are given."""
    rows = torch.linspace(0, len(images) - 1, min(SAMPLE, len(images)), device=images.device).round().long()
    total = torch.zeros(images.box, images.box // 2 + 1, device=images.device)
    for _, some in images.batches(rows.split(images.batch)):
        half_planes = _windowed(some.coefficients, border)
        if white is not None and mask is not None:
            half_planes = _windowed(half_planes / white, mask)
        total += half_planes.abs().square().sum(dim=0)
    return radial_mean(total / len(rows), images.box)


def _windowed(half_planes: Complex[Tensor, "b d h"], window: Float[Tensor, "d d"]) -> Complex[Tensor, "b d h"]:
    return images_to_fourier(fourier_to_images(half_planes, len(window)) * window)


def _radius(box: int) -> Float[Tensor, "d d"]:
    x = (torch.arange(box) - box // 2).float()
    return torch.hypot(*torch.meshgrid(x, x, indexing="ij"))


def _outside(box: int) -> Float[Tensor, "d d"]:
    return torch.sigmoid((_radius(box) - RADIUS * box) * 48 / box)

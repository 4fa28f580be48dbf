r"""What two half maps tell: resolution from place to place, and how large the noise of a map is.

Local resolution: both maps are split into bands of spatial frequency; in each, the correlation in a Gaussian window,

    c_b(x) = G * (V1_b V2_b) / sqrt((G * V1_b^2) (G * V2_b^2)),

is a local FSC, and the resolution is where it first falls below 0.5. The threshold is 0.5, not 0.143, because a window
holds some tens of independent coefficients per band: chance alone reaches 0.143. Solvent has no resolution; its values
are those of the coarsest band.

Noise: half of the difference of the halves is one draw of the noise of their mean. Filtered as the mean is (a Wiener
factor per shell) it says how much of a filtered map's density is chance.
"""

import numpy as np
import scipy.fft
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

from cryoformer.assess.masks import soft_mask
from cryoformer.imaging.fsc import fourier_shell_correlation
from cryoformer.imaging.grids import half_volume_radii, raised_cosine, voxel_radii

BANDS = 20
THRESHOLD = 0.5
WINDOW_ANGSTROM = 12.0
"""Standard deviation of the window; at least three voxels."""
PERIODS = 0.6
"""The window is never narrower than this many periods of the band."""
PARTICLE_RADIUS = 0.9
"""Particles lie inside this fraction of half the box."""


def half_map_fsc(half_maps: Float[np.ndarray, "2 d d d"]) -> Float[np.ndarray, " s"]:
    """FSC of the halves over rounded shells inside the sphere that particles lie in, with a soft edge."""
    ball = _ball(half_maps.shape[-1])
    return fourier_shell_correlation(half_maps[0] * ball, half_maps[1] * ball)


def local_resolution(half_maps: Float[np.ndarray, "2 d d d"], pixel_size_angstrom: float) -> Float[np.ndarray, "d d d"]:
    """Resolution in Angstrom at every voxel [z, y, x], between that of the coarsest band and Nyquist."""
    box = half_maps.shape[-1]
    transforms = scipy.fft.rfftn(half_maps, axes=(1, 2, 3))
    radius, width = _radius(box), box / 2 / BANDS
    found = np.zeros((box,) * 3)
    still, before = np.ones((box,) * 3, dtype=bool), np.ones((box,) * 3)
    frequency_before = 1.0
    for band in range(1, BANDS + 1):
        frequency = min(band * width, box / 2 - 0.5 * width)
        share = raised_cosine(np.abs(radius - frequency) / width)
        one, two = scipy.fft.irfftn(transforms * share, s=(box,) * 3, axes=(1, 2, 3))
        sigma = max(WINDOW_ANGSTROM / pixel_size_angstrom, 3.0, PERIODS * box / frequency)
        correlation = _local_correlation(one, two, sigma)
        crossed = still & (correlation < THRESHOLD)
        fraction = (before - THRESHOLD) / np.maximum(before - correlation, 1e-9)
        found[crossed] = (frequency_before + fraction * (frequency - frequency_before))[crossed]
        still &= ~crossed
        before, frequency_before = correlation, frequency
    found[still] = box / 2
    return np.asarray(box * pixel_size_angstrom / np.maximum(found, width))


def map_noise(half_maps: Float[np.ndarray, "2 d d d"]) -> Float[np.ndarray, "d d d"]:
    """One draw of the noise of the filtered mean map [z, y, x]."""
    box = half_maps.shape[-1]
    fsc = half_map_fsc(half_maps).clip(0.0, 1.0)
    factor = (2.0 * fsc / (1.0 + fsc))[np.minimum(_radius(box).round().astype(np.int64), box // 2)]
    transform = scipy.fft.rfftn((half_maps[0] - half_maps[1]) / 2.0)
    return np.asarray(scipy.fft.irfftn(transform * factor, s=(box,) * 3))


def noise_deviation(half_maps: Float[np.ndarray, "2 d d d"], pixel_size_angstrom: float) -> Float[np.ndarray, "d d d"]:
    """Standard deviation of the filtered mean map's noise at every voxel, from the noise around it."""
    sigma = max(WINDOW_ANGSTROM / pixel_size_angstrom, 3.0)
    return np.sqrt(gaussian_filter(map_noise(half_maps) ** 2, sigma, mode="nearest").clip(0.0))


def _local_correlation(one: np.ndarray, two: np.ndarray, sigma: float) -> np.ndarray:
    cross, first, second = (
        gaussian_filter(v, sigma, mode="constant", truncate=3.0) for v in (one * two, one**2, two**2)
    )
    return np.asarray(cross / np.sqrt(np.maximum(first * second, 1e-300)))


def _radius(box: int) -> Float[np.ndarray, "d d h"]:
    return half_volume_radii(box, dtype=torch.float64).numpy()


def _ball(box: int) -> np.ndarray:
    return soft_mask((voxel_radii(box) < PARTICLE_RADIUS * box / 2).numpy(), 1.0, 0.0, 3.0)

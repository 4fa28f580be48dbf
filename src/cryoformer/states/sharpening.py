r"""Sharpening by one B-factor, estimated from the map itself.

Amplitudes of proteins fall like exp(-B / 4 d^2) beyond 10 A; a straight line through ln of the mean amplitude per shell
against 1 / d^2, from 10 A to the map's resolution, gives B (Guinier plot; Rosenthal & Henderson, J. Mol. Biol. 2003),
and the map is multiplied by exp(+B / 4 d^2). Maps that do not reach well beyond 10 A say nothing of B.
"""

import numpy as np
from jaxtyping import Float

from cryoformer.imaging.grids import half_volume_radii

LOWEST_ANGSTROM = 10.0
LEAST_SHELLS = 4


def b_factor(
    volume: Float[np.ndarray, "d d d"], pixel_size_angstrom: float, resolution_angstrom: float
) -> float | None:
    """B in square Angstrom, 0 at least; None where there are too few shells between 10 A and the resolution."""
    box = len(volume)
    shell = half_volume_radii(box).round().long().numpy()
    power = np.abs(np.fft.rfftn(volume)) ** 2
    mean = np.bincount(shell.ravel(), power.ravel()) / np.bincount(shell.ravel())
    frequency = np.arange(len(mean)) / (box * pixel_size_angstrom)
    used = (frequency >= 1 / LOWEST_ANGSTROM) & (frequency <= 1 / resolution_angstrom)
    used &= np.arange(len(mean)) < box // 2
    if used.sum() < LEAST_SHELLS:
        return None
    slope, _ = np.polyfit(frequency[used] ** 2, 0.5 * np.log(np.maximum(mean[used], 1e-300)), 1)
    return max(float(-4.0 * slope), 0.0)


def sharpened(
    volume: Float[np.ndarray, "d d d"], pixel_size_angstrom: float, b_factor_angstrom2: float
) -> Float[np.ndarray, "d d d"]:
    """The volume multiplied by exp(B / 4 d^2), up to Nyquist."""
    box = len(volume)
    radius = half_volume_radii(box).numpy()
    gain = np.exp(0.25 * b_factor_angstrom2 * (radius / (box * pixel_size_angstrom)) ** 2) * (radius <= box / 2)
    return np.asarray(np.fft.irfftn(np.fft.rfftn(volume) * gain, s=volume.shape, axes=(0, 1, 2)), dtype=np.float32)

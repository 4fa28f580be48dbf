"""Fourier shell correlation (FSC), resolution, and the area under the FSC curve.

For volumes V1, V2 with Fourier coefficients F1, F2::

    FSC(s) = Re sum F1 conj(F2) / sqrt(sum |F1|^2 sum |F2|^2)      over the coefficients of shell s

Shells are hard and the sums run over the half-space of the real transform, every coefficient counted as often as it
stands in the whole space (once for kx = 0 and kx = D/2, else twice). Two divisions into shells are in use:

* *rounded*: shell s holds the coefficients whose radius rounds to s, s = 0 ... D // 2. The resolution comes from this.
* *CryoBench*: shell i holds the radii in [i - 1, i), i = 1 ... D // 2 - 1, and FSC_0 is 1. The area under this curve
  over spatial frequency (cycles per pixel) is the score of CryoBench (Jeon et al., NeurIPS 2024), so at D = 128 a
  perfect map scores 63 / 128 = 0.492. Its shell 1 is the zero frequency alone.

Two half maps under a mask correlate through the mask too. :func:`masked_fsc` takes that out as Chen et al.
(Ultramicroscopy 2013) do, by maps whose phases are random beyond a shell: nothing but the mask correlates there::

    FSC_true = (FSC_t - FSC_n) / (1 - FSC_n)

with FSC_t of the masked maps and FSC_n of the masked maps of random phases.

Corners of the Fourier cube beyond the last shell are left out. A shell where either volume has no power has FSC 0.
Everything is computed in float64: a pair at 64^3 takes 5 to 10 ms on one core. Leading dimensions are batches.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Complex128, Float, Float64, Int64
from torch import Tensor

from cryoformer.imaging.fourier import half_plane_weights
from cryoformer.imaging.grids import half_volume_radii

Volumes = Float[Tensor, "*batch d d d"] | Float[np.ndarray, "*batch d d d"]
ShellRule = Literal["rounded", "cryobench"]
RANDOMISE_BELOW = 0.8


def fourier_shell_correlation(a: Volumes, b: Volumes) -> Float64[np.ndarray, "*batch s"]:
    """FSC over rounded shells 0 ... D // 2 of volumes ``[..., z, y, x]`` of one shape."""
    return _correlate(half_transform(a), half_transform(b), "rounded")


def cryobench_fsc(a: Volumes, b: Volumes) -> Float64[np.ndarray, "*batch s"]:
    """FSC in CryoBench's shells 0 ... D // 2 - 1, which stand for i / D cycles per pixel."""
    return _correlate(half_transform(a), half_transform(b), "cryobench")


def fsc_auc(a: Volumes, b: Volumes) -> Float64[np.ndarray, "*batch"]:
    """Area under :func:`cryobench_fsc` over cycles per pixel, by trapezoids; at most :func:`perfect_auc`."""
    return _area(cryobench_fsc(a, b), int(a.shape[-1]))


def perfect_auc(box: int) -> float:
    """What identical volumes score: (D / 2 - 1) / D, 0.484 at 64 and 0.492 at 128."""
    return (box // 2 - 1) / box


def compare_transforms(
    a: Complex128[Tensor, "*batch d d h"], b: Complex128[Tensor, "*batch d d h"]
) -> tuple[Float64[np.ndarray, "*batch s"], Float64[np.ndarray, "*batch"]]:
    """FSC over rounded shells and CryoBench's area, from the :func:`half_transform` of both volumes."""
    return _correlate(a, b, "rounded"), _area(_correlate(a, b, "cryobench"), a.shape[-2])


def masked_fsc(
    a: Float[np.ndarray, "d d d"], b: Float[np.ndarray, "d d d"], mask: Float[np.ndarray, "d d d"], seed: int = 0
) -> Float64[np.ndarray, " s"]:
    """FSC_true over rounded shells of two independent maps under a soft mask.

    Phases are random from the first shell on where the unmasked maps correlate by less than 0.8; two shells further the
    correction sets in (before, the mask's leak from the shells that were left alone would be taken for noise).
    """
    start = _first_below(fourier_shell_correlation(a, b), RANDOMISE_BELOW)
    total = fourier_shell_correlation(a * mask, b * mask)
    rng = np.random.default_rng(seed)
    noise = fourier_shell_correlation(*(randomise_phases(v, start, rng) * mask for v in (a, b)))
    # Where the mask explains everything, but for rounding, nothing is left to tell.
    left = 1.0 - noise
    corrected = np.where(left > 1e-6, (total - noise) / np.maximum(left, 1e-6), 0.0)
    return np.asarray(np.where(np.arange(len(total)) < start + 2, total, corrected), dtype=np.float64)


def randomise_phases(
    volume: Float[np.ndarray, "d d d"], first_shell: int, rng: np.random.Generator
) -> Float64[np.ndarray, "d d d"]:
    """The volume with its amplitudes, and random phases from this rounded shell on."""
    box = volume.shape[-1]
    transform = half_transform(volume).numpy()
    # The phases of real noise have the symmetry that those of a real volume need.
    noise = half_transform(rng.standard_normal(volume.shape)).numpy()
    index, _, _ = _shells(box, "rounded", torch.device("cpu"))
    beyond = index.reshape(transform.shape).numpy() >= first_shell
    turned = np.where(beyond, np.abs(transform) * np.exp(1j * np.angle(noise)), transform)
    return np.asarray(np.fft.irfftn(turned, s=volume.shape, axes=(0, 1, 2)), dtype=np.float64)


def _first_below(curve: Float64[np.ndarray, " s"], threshold: float) -> int:
    below = np.flatnonzero(curve[1:] < threshold)
    return int(below[0]) + 1 if len(below) else len(curve)


def half_transform(volumes: Volumes) -> Complex128[Tensor, "*batch d d h"]:
    """Half-space Fourier transform in float64. The origin of phase is a corner, which no FSC depends on."""
    return torch.fft.rfftn(torch.as_tensor(volumes).to(torch.float64), dim=(-3, -2, -1))


def resolution(fsc: Float[np.ndarray, " s"], box: int, pixel_size_angstrom: float, threshold: float = 0.5) -> float:
    """Resolution in Angstrom where the curve over rounded shells first falls below the threshold.

    Linear interpolation between that shell and the one before; D a / s at shell s. A curve that never falls below is
    reported at Nyquist, 2 a. The zero frequency counts as 1. A value that is not a number counts as below.
    """
    curve = np.concatenate([[1.0], np.asarray(fsc, dtype=np.float64)[1:]])
    below = np.flatnonzero(~(curve >= threshold))
    if len(below) == 0:
        return 2.0 * pixel_size_angstrom
    last = int(below[0])
    upper, lower = curve[last - 1], np.nan_to_num(curve[last])
    shell = last - 1 + (upper - threshold) / (upper - lower)
    # A curve that drops at once would have no resolution at all; the box is the longest period that it can show.
    return float(min(max(box / max(shell, 1e-9), 2.0), box) * pixel_size_angstrom)


def _area(curve: Float64[np.ndarray, "*batch s"], box: int) -> Float64[np.ndarray, "*batch"]:
    return np.asarray(np.trapezoid(curve, dx=1.0 / box, axis=-1))


def _correlate(
    a: Complex128[Tensor, "*batch d d h"], b: Complex128[Tensor, "*batch d d h"], rule: ShellRule
) -> Float64[np.ndarray, "*batch s"]:
    """FSC from transforms of cubes."""
    box, batch = a.shape[-2], a.shape[:-3]
    index, weights, count = _shells(box, rule, a.device)
    flat_a, flat_b = a.reshape(-1, index.numel()), b.reshape(-1, index.numel())

    def shell_sums(left: Tensor, right: Tensor) -> Tensor:
        # Re left conj(right). A sum over the last axis of view_as_real would take ten times as long.
        values = (left.real * right.real).addcmul_(left.imag, right.imag).mul_(weights)
        sums = torch.zeros(len(values), count + 1, dtype=values.dtype, device=values.device)
        return sums.scatter_add_(1, index.expand_as(values), values)[:, :count]

    cross, power = shell_sums(flat_a, flat_b), shell_sums(flat_a, flat_a) * shell_sums(flat_b, flat_b)
    fsc = torch.where(power > 0, cross / torch.where(power > 0, power, 1.0).sqrt(), 0.0)
    if rule == "cryobench":
        fsc[:, 0] = 1.0
    return fsc.reshape(*batch, count).cpu().numpy()


@lru_cache(maxsize=4)
def _shells(box: int, rule: ShellRule, device: torch.device) -> tuple[Int64[Tensor, " c"], Float64[Tensor, " c"], int]:
    """Shell of every half-space coefficient (the last index: left out), how often it counts, number of shells."""
    radius = half_volume_radii(box, device=device, dtype=torch.float64)
    if rule == "rounded":
        count, index = box // 2 + 1, radius.round().long()
    else:
        # Radii in [i - 1, i) are shell i. Squares are whole numbers, so the root of a perfect square is exact.
        count, index = box // 2, radius.floor().long() + 1
    weights = half_plane_weights(box, device).double()
    return index.clamp_(max=count).reshape(-1), weights.expand(box, box, -1).reshape(-1), count

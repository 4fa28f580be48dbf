r"""Stage A: the homogeneous density, by Wiener-filtered back-projection, with its noise and half-map FSC.

    V(k) = sum_i C_i Y_i / s_i^2  /  (sum_i C_i^2 / s_i^2 + 1 / tau^2(|k|)),   1 / tau^2 = data precision / SSNR

with the spectral signal-to-noise ratio SSNR = FSC' / (1 - FSC'), FSC' = 2 FSC / (1 + FSC), from two half maps
(Scheres, J. Mol. Biol. 2012). The same solve, fed with residuals, corrects a decoder (:mod:`.base`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryoformer.imaging.fourier import radial_mean
from cryoformer.imaging.projection import grid_points
from cryoformer.imaging.slices import (
    SlicePlane,
    extract_slices,
    fourier_from_volume,
    interpolate_slices,
    volume_from_fourier,
)
from cryoformer.reconstruct.images import FourierImages
from cryoformer.reconstruct.local_filter import local_wiener
from cryoformer.reconstruct.normal_equations import NormalEquations, shell_mean

BATCH = 256
# Particles lie inside this fraction of half the box; the FSC of the halves is taken there.
PARTICLE_RADIUS = 0.9

Prediction = Callable[[Int[Tensor, " b"]], Complex[Tensor, "b d h"]]


@dataclass(frozen=True)
class Consensus:
    """Homogeneous density [z, y, x] of the images' box, its half-map FSC per shell and the noise power per shell.

    ``volume`` is filtered shell by shell, ``local`` from place to place (:mod:`.local_filter`).
    """

    volume: Float[Tensor, "d d d"]
    local: Float[Tensor, "d d d"]
    half_map_fsc: Float[Tensor, " half"]
    noise_power: Float[Tensor, " bands"]


def reconstruct_consensus(images: FourierImages) -> Consensus:
    """Homogeneous density in two passes: with flat noise, then with the noise spectrum of the residuals."""
    first = wiener_backprojection(images)
    refined = replace(images, noise_power=residual_noise_power(images, first.volume))
    found = wiener_backprojection(refined)
    return Consensus(found.volume, found.local(images.pixel_size_angstrom), found.half_map_fsc, refined.noise_power)


@dataclass(frozen=True)
class Backprojection:
    """A density filtered per shell, the FSC of its halves (shells 0 .. D / 2 - 1), and the halves, unfiltered."""

    volume: Float[Tensor, "d d d"]
    half_map_fsc: Float[Tensor, " half"]
    halves: tuple[Float[Tensor, "d d d"], Float[Tensor, "d d d"]]

    def local(self, pixel_size_angstrom: float) -> Float[Tensor, "d d d"]:
        """The density filtered from place to place."""
        return local_wiener(*self.halves, pixel_size_angstrom)


def wiener_backprojection(images: FourierImages, subtract: Prediction | None = None) -> Backprojection:
    """Density of all images, with halves of even and odd rows.

    ``subtract(rows)`` gives half-planes to take off the images first: what another model already explains.
    """
    halves = [_accumulate(images, torch.arange(half, len(images), 2), subtract) for half in (0, 1)]
    box = images.box
    ball = grid_points(box, 1.0).norm(dim=1).reshape(box, box, box) < PARTICLE_RADIUS * box / 2
    maps = []
    for half in halves:
        floor = 1e-3 * half.precision()[:, : box // 2].mean(dim=1, keepdim=True)
        coefficients, _ = half.solve(floor.expand(1, box // 2))
        maps.append(volume_from_fourier(coefficients, box)[0])
    ball = ball.to(images.device)
    fsc = _correlation(maps[0] * ball, maps[1] * ball)
    both = halves[0].merged_with(halves[1])
    joint = (2 * fsc / (1 + fsc)).clamp(1e-3, 1 - 1e-3)
    coefficients, _ = both.solve(both.precision() * (1 - joint) / joint)
    return Backprojection(volume_from_fourier(coefficients, box)[0], fsc, (maps[0], maps[1]))


def residual_noise_power(
    images: FourierImages, volume: Float[Tensor, "d d d"], sample: int = 2000
) -> Float[Tensor, " bands"]:
    """Noise variance per shell: the mean power of what a density leaves unexplained in a sample of images."""
    rows = torch.linspace(0, len(images) - 1, min(sample, len(images)), device=images.device).round().long()
    power = subtract_projections(images.subset(rows), volume).abs().square().mean(dim=0)
    return radial_mean(power, images.box)


@torch.no_grad()
def subtract_projections(images: FourierImages, volume: Float[Tensor, "d d d"]) -> Complex[Tensor, "n d h"]:
    """Y_i - C_i P_i V for all images, V [z, y, x] of their box; outside the Nyquist circle nothing is predicted."""
    plane = SlicePlane.of_box(images.box, images.device)
    table = _slice_table(volume)
    residuals = images.coefficients.clone()
    for rows in torch.arange(len(images), device=images.device).split(BATCH):
        where = interpolate_slices(plane, images.rotations[rows])
        predicted = plane.put(extract_slices(table, where, 1)[..., 0])
        residuals[rows] -= predicted * images.ctf[rows]
    return residuals


def _slice_table(volume: Float[Tensor, "d d d"]) -> Float[Tensor, "v 2"]:
    coefficients = fourier_from_volume(volume).reshape(-1)
    return torch.stack([coefficients.real, coefficients.imag], dim=1)


def _accumulate(images: FourierImages, rows: Tensor, subtract: Prediction | None) -> NormalEquations:
    plane = SlicePlane.of_box(images.box, images.device)
    deviation = plane.take(images.noise_deviation())
    equations = NormalEquations(images.box, 1, images.device)
    for batch in rows.to(images.device).split(BATCH):
        half_planes = images.coefficients[batch]
        if subtract is not None:
            half_planes = half_planes - subtract(batch)
        one = torch.ones(len(batch), 1, device=images.device)
        equations.add(
            plane.take(half_planes) / deviation,
            plane.take(images.ctf[batch]) / deviation,
            one,
            one[:, :, None],
            interpolate_slices(plane, images.rotations[batch]),
        )
    equations.finish()
    return equations


def _correlation(a: Float[Tensor, "d d d"], b: Float[Tensor, "d d d"]) -> Float[Tensor, " s"]:
    """FSC per rounded shell 0 .. D / 2 - 1 of two volumes."""
    box = a.shape[-1]
    first, second = fourier_from_volume(a), fourier_from_volume(b)
    parts = torch.stack([(first * second.conj()).real, first.abs().square(), second.abs().square()])
    cross, power_a, power_b = shell_mean(parts, box)
    return cross / (power_a * power_b).sqrt().clamp_min(torch.finfo(cross.dtype).tiny)

r"""Stage A: the homogeneous density, by Wiener-filtered back-projection, with its noise and half-map FSC.

    V(k) = sum_i C_i Y_i / s_i^2  /  (sum_i C_i^2 / s_i^2 + 1 / tau^2(|k|)),   1 / tau^2 = data precision / SSNR

with the spectral signal-to-noise ratio SSNR = FSC' / (1 - FSC'), FSC' = 2 FSC / (1 + FSC), from two half maps
(Scheres, J. Mol. Biol. 2012). The same solve, fed with residuals, corrects a decoder (:mod:`.static_density`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryoformer.images.fourier_images import FourierImages, Images
from cryoformer.imaging.fourier import radial_mean
from cryoformer.imaging.grids import filter_shells, shell_mean_of, voxel_radii
from cryoformer.imaging.slices import (
    PADDING,
    SlicePlane,
    fourier_from_volume,
    interpolate_slices,
    volume_from_fourier,
)
from cryoformer.linear.local_filter import local_wiener
from cryoformer.linear.normal_equations import NormalEquations

# Particles lie inside this fraction of half the box; the FSC of the halves is taken there.
PARTICLE_RADIUS = 0.9

Prediction = Callable[[Int[Tensor, " b"], FourierImages], Complex[Tensor, "b d h"]]


@dataclass(frozen=True)
class Consensus:
    """Homogeneous density [z, y, x] of the images' box, its half-map FSC per shell and the noise power per shell.

    ``volume`` is filtered shell by shell, ``local`` from place to place (:mod:`.local_filter`); ``halves`` are the two
    half maps, unfiltered.
    """

    volume: Float[Tensor, "d d d"]
    local: Float[Tensor, "d d d"]
    halves: Float[Tensor, "2 d d d"]
    half_map_fsc: Float[Tensor, " half"]
    noise_power: Float[Tensor, " bands"]

    def filtered_half(self, number: int) -> Float[Tensor, "d d d"]:
        """A half map with what the two have in common: the share of signal in it, shell by shell."""
        fsc = self.half_map_fsc
        return filter_shells(self.halves[number], torch.cat([fsc.clamp(0, 1), fsc.new_zeros(1)]))


def reconstruct_consensus(images: Images, group: Float[Tensor, "g 3 3"] | None = None) -> Consensus:
    """Homogeneous density in two passes: with flat noise, then with the noise spectrum of the residuals.

    ``group``: rotations that lay the particles on themselves (None: none but identity).
    """
    first = wiener_backprojection(images, group=group)
    refined = images.with_noise(residual_noise_power(images, first.volume))
    found = wiener_backprojection(refined, group=group)
    return Consensus(
        volume=found.volume,
        local=found.local(images.pixel_size_angstrom),
        halves=torch.stack(found.halves),
        half_map_fsc=found.half_map_fsc,
        noise_power=refined.noise_power,
    )


@dataclass(frozen=True)
class Backprojection:
    """A density filtered per shell, the FSC of its halves (shells 0 .. D / 2 - 1), and the halves, unfiltered."""

    volume: Float[Tensor, "d d d"]
    half_map_fsc: Float[Tensor, " half"]
    halves: tuple[Float[Tensor, "d d d"], Float[Tensor, "d d d"]]

    def local(self, pixel_size_angstrom: float) -> Float[Tensor, "d d d"]:
        """The density filtered from place to place."""
        return local_wiener(*self.halves, pixel_size_angstrom)


def wiener_backprojection(
    images: Images,
    subtract: Prediction | None = None,
    order: Int[Tensor, " n"] | None = None,
    group: Float[Tensor, "g 3 3"] | None = None,
) -> Backprojection:
    """Density of all images, and of their two halves.

    ``subtract(rows, images)`` gives half-planes to take off these images first: what another model already explains.
    ``order`` is that in which it wants to see them. Both count rows of all images, whatever processes share them.
    """
    order = torch.arange(len(images), device=images.device) if order is None else images.part.here(order)
    rows = [order[images.halves[order] == number] for number in (0, 1)]
    return solved_halves([backprojection_equations(images, some, subtract, group) for some in rows])


def solved_halves(halves: Sequence[NormalEquations]) -> Backprojection:
    """The density of the (finished) equations of two halves of the data."""
    box = halves[0].box
    maps = []
    for half in halves:
        floor = 1e-3 * half.precision()[:, : box // 2].mean(dim=1, keepdim=True)
        maps.append(volume_from_fourier(half.solve(floor.expand(1, box // 2))[0], box)[0])
    # Of a large box these are gigabytes: what is no longer needed goes first.
    both = halves[0].merge(halves[1])
    ball = (voxel_radii(box) < PARTICLE_RADIUS * box / 2).to(maps[0].device)
    fsc = _correlation(maps[0] * ball, maps[1] * ball)
    joint = (2 * fsc / (1 + fsc)).clamp(1e-3, 1 - 1e-3)
    coefficients, _ = both.solve(both.precision() * (1 - joint) / joint)
    return Backprojection(volume_from_fourier(coefficients, box)[0], fsc, (maps[0], maps[1]))


def residual_noise_power(images: Images, volume: Float[Tensor, "d d d"], sample: int = 2000) -> Float[Tensor, " bands"]:
    """Noise variance per shell: the mean power of what a density leaves unexplained in a sample of images.

    Coefficients without CTF hold nothing, so they do not count. Edges that end softly hold less noise than
    the place of the particle.
    """
    part, box = images.part, images.box
    rows = part.here(torch.linspace(0, part.total - 1, min(sample, part.total), device=images.device).round().long())
    residuals = images.minus(volume)
    power, count = (torch.zeros(box, box // 2 + 1, device=images.device) for _ in range(2))
    for _, some in residuals.batches(rows.split(images.batch)):
        seen = some.ctf != 0
        power += (some.coefficients.abs().square() * seen).sum(dim=0)
        count += seen.sum(dim=0)
    part.processes.add(power)
    part.processes.add(count)
    number = radial_mean(count, box)
    return torch.where(number > 0, radial_mean(power, box) / number / images.noise_kept, float(box**2))


def backprojection_equations(
    images: Images,
    rows: Int[Tensor, " m"],
    subtract: Prediction | None = None,
    group: Float[Tensor, "g 3 3"] | None = None,
    weights: Float[Tensor, " n"] | None = None,
) -> NormalEquations:
    """Normal equations of one density for these images, and those of other processes, finished.

    An image of a density with symmetry is one of all views R g, g of its ``group``. ``weights``: how much each of the
    images that are here counts (None: all alike).
    """
    elements = torch.eye(3, device=images.device)[None] if group is None else group.to(images.device)
    plane = SlicePlane.of_box(images.box, images.device)
    deviation = plane.take(images.noise_deviation())
    equations = NormalEquations(images.box, 1, images.device)
    for some, batch in images.batches(rows.split(images.batch)):
        half_planes = batch.coefficients
        if subtract is not None:
            half_planes = half_planes - subtract(some + images.part.start, batch)
        counts = torch.ones(len(batch), 1, device=images.device) if weights is None else weights[some, None]
        data, ctf = plane.take(half_planes) / deviation, plane.take(batch.ctf) / deviation
        for element in elements:
            equations.add(data, ctf, counts, counts[:, :, None], interpolate_slices(plane, batch.views() @ element))
    equations.finish(images.part.processes)
    return equations


def _correlation(a: Float[Tensor, "d d d"], b: Float[Tensor, "d d d"]) -> Float[Tensor, " s"]:
    """FSC per rounded shell 0 .. D / 2 - 1 of two volumes."""
    box = a.shape[-1]
    first, second = fourier_from_volume(a), fourier_from_volume(b)

    def parts(planes: slice) -> Tensor:
        one, other = first[planes], second[planes]
        return torch.stack([(one * other.conj()).real, one.abs().square(), other.abs().square()])

    cross, power_a, power_b = shell_mean_of(parts, box, PADDING, a.device)
    return cross / (power_a * power_b).sqrt().clamp_min(torch.finfo(cross.dtype).tiny)

r"""A map from images without poses, by stochastic expectation maximisation over rotations and shifts.

A step takes a few hundred images, compares them with a few hundred to a few thousand views of the map as it is
(:mod:`.matching`), and adds them, weighted by their posterior over views and shifts, to normal equations that forget:

    N <- (1 - h) N + h sum_i sum_(r, d) p_i(r, d) C_i Y_i / s^2,     V = N / (D + 1 / tau^2),   h = 0.08

The views are an even set of rotations, turned at random in every step. The band of frequencies begins at some five
shells and grows. What is known to matter: noise variance as the background has it (with the power of the images
instead, posteriors stay flat and the map stays round), no annealing, a soft sphere, and positivity at the beginning.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryoformer.imaging.grids import half_volume_radii, voxel_radii
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.imaging.slices import (
    PADDING,
    SlicePlane,
    add_friedel_mates,
    fourier_from_volume,
    insert_slices,
    interpolate_slices,
    padded_shape,
    volume_from_fourier,
)
from cryoformer.particles.repeats import between_images, shuffled
from cryoformer.poses.matching import TILE, BandImages, score_tiles, shift_grid, views
from cryoformer.poses.symmetry import in_asymmetric_unit

# Posterior weights below this share of an image's largest are left out.
LEAST_WEIGHT = math.exp(-11.0)
# A view that differs by this share of the finest detail's size differs visibly: 2 / (0.6 k) radians between views.
VIEW_STEP = 2.0 / 0.6
LEAST_VIEWS = 576
# A grid of shifts has a step of this share of the finest detail.
SHIFT_STEP = 0.4
BALL = 0.42  # of the box: where density may be
FORGET = 0.08
# Density may not be negative in bands below this share of the last.
POSITIVE_BELOW = 0.88
# A band grows when pseudo half-maps agree by this much at its edge.
LEAST_AGREEMENT = 0.5
# The noise's power as a share of the background's, at least and at most.
LEAST_NOISE, MOST_NOISE = 0.4, 1.0


def view_count(shells: float, share: float = 1.0) -> int:
    """Rotations of an even set whose neighbours a band of so many shells tells apart: 8 pi^2 / step^3."""
    return int(share * 8 * math.pi**2 * (shells / VIEW_STEP) ** 3)


class DecayingEquations:
    """Sums over images for one map of a point group, which forget."""

    def __init__(self, box: int, group: Float[Tensor, "g 3 3"]) -> None:
        self.box, self.group, voxels = box, group, math.prod(padded_shape(box))
        self.right = torch.zeros(voxels, dtype=torch.complex64)
        self.left = torch.zeros(voxels)

    def forget(self, share: float) -> None:
        """What was added before keeps 1 - share of its weight."""
        self.right.mul_(1 - share)
        self.left.mul_(1 - share)

    def add(
        self,
        plane: SlicePlane,
        rotations: Float[Tensor, "r 3 3"],
        right: Complex[Tensor, "r m"],
        left: Float[Tensor, "r m"],
    ) -> None:
        """Sums at these views, already weighted."""
        for some in torch.arange(len(rotations)).split(max(1, TILE // (4 * len(plane.index)))):
            values = right[some]
            for element in self.group:
                where = interpolate_slices(plane, rotations[some] @ element)
                insert_slices(self.right, torch.complex(values.real, values.imag * where.conjugate), where)
                insert_slices(self.left, left[some], where)

    def merged_with(self, other: "DecayingEquations") -> "DecayingEquations":
        """The sums of both."""
        both = DecayingEquations(self.box, self.group)
        both.right, both.left = self.right + other.right, self.left + other.left
        return both

    def solve(self, shells: float, count: float = 1.0) -> Float[Tensor, "d d d"]:
        """The map up to a band's edge, with a Wiener prior from the power per shell of the sums themselves.

        ``count``: the images say so many times as much as the sums of one batch.
        """
        shape, box = padded_shape(self.box), self.box
        right, left = count * torch.view_as_real(self.right.view(shape)), self.left.view(*shape, 1).clone()
        add_friedel_mates(right[..., :1], 1.0)
        add_friedel_mates(right[..., 1:], -1.0)
        add_friedel_mates(left, 1.0)
        left, radius = count * left[..., 0], half_volume_radii(box, PADDING)
        shell = radius.round().long().clamp(max=box)
        mean = _mean_by(shell, left, torch.ones_like(left))
        seen = (left > 0.1 * mean[shell]).to(left.dtype)
        raw = right.square().sum(dim=-1) / left.clamp_min(1e-6).square()
        power = _mean_by(shell, raw, seen)
        signal = (power - 1 / mean.clamp_min(1e-9)).clamp_min(0.1 * power)
        edge = torch.sigmoid((shells + 0.5 - radius) * 4)
        scale = edge / (left + 1 / signal[shell].clamp_min(1e-12) + 0.05 * mean[shell])
        return volume_from_fourier(torch.view_as_complex(right) * scale, box)


def _mean_by(shell: Tensor, values: Tensor, weights: Tensor) -> Tensor:
    total, count = (torch.zeros(int(shell.max()) + 1) for _ in range(2))
    total.index_add_(0, shell.reshape(-1), (values * weights).reshape(-1))
    count.index_add_(0, shell.reshape(-1), weights.reshape(-1))
    return total / count.clamp_min(1)


def soft_ball(box: int, share: float) -> Float[Tensor, "d d d"]:
    """1 within ``share`` of the box of the centre, 0 outside, over some two pixels."""
    return torch.sigmoid(share * box - voxel_radii(box))


@dataclass
class Batch:
    """What a batch of images says: sums at the views; of each, the log likelihood at its best pose and on average."""

    right: Complex[Tensor, "r m"]
    left: Float[Tensor, "r m"]
    best: Float[Tensor, " b"]
    marginal: Float[Tensor, " b"]
    view: Tensor
    shift: Tensor

    def explained(self, slices: Complex[Tensor, "r m"]) -> Float[Tensor, " m"]:
        """By how much less power, in units of the noise's, the images have after their expected projections."""
        return (2 * (slices.conj() * self.right).real - self.left * slices.abs().square()).sum(dim=0) / len(self.best)


class NoiseShare:
    """The noise's variance per shell as a share of what the background says: neighbours are in that, too.

    It is what a map leaves unexplained, within bounds: in the beginning that is nearly all, and with so much noise
    posteriors would be flat and the map would stay round.
    """

    def __init__(self, box: int, kept: float) -> None:
        self.share, self.kept = torch.ones(box), kept

    def of(self, images: BandImages) -> Float[Tensor, " m"]:
        """Of every coefficient."""
        return self.share[images.radius.round().long()]

    def update(self, images: BandImages, explained: Float[Tensor, " m"], pace: float) -> None:
        """After a batch, whose noise was taken to be what :meth:`of` says."""
        left = (images.power - explained) * self.of(images) / self.kept
        shell = images.radius.round().long()
        total = torch.zeros_like(self.share).index_add_(0, shell, left)
        count = torch.zeros_like(self.share).index_add_(0, shell, torch.ones_like(left))
        found = (total / count.clamp_min(1)).clamp(LEAST_NOISE, MOST_NOISE)
        self.share = torch.where(count > 0, torch.lerp(self.share, found, pace), self.share)


def expectation(
    images: BandImages, slices: Complex[Tensor, "r m"], rotations: Float[Tensor, "r 3 3"], shifts: Float[Tensor, "t 2"]
) -> Batch:
    """Posteriors of all images over views and shifts, and the sums for the next map."""
    r, m = slices.shape
    right, left = torch.zeros(r, 2 * m), torch.zeros(r, m)
    best, marginal = (torch.empty(len(images)) for _ in range(2))
    place = torch.empty(len(images), dtype=torch.long)
    for tile in score_tiles(images, slices, rotations, shifts):
        b, t, _ = tile.scores.shape
        here = slice(tile.start, tile.start + b)
        flat = tile.scores.view(b, -1)
        best[here], place[here] = flat.max(dim=1)
        near = (flat > best[here, None] + math.log(LEAST_WEIGHT)).nonzero()
        if len(near) > flat.numel() // 20:
            weights = flat.sub_(best[here, None]).exp_()
            total = weights.sum(dim=1)
            by_view = (weights / total[:, None]).view(b, t, r)
            right += by_view.view(b * t, r).T @ tile.rows
            left += by_view.sum(dim=1).T @ tile.weight
        else:
            image, candidate = near.T
            weights = (flat[image, candidate] - best[here][image]).exp_()
            total = torch.zeros(b).index_add_(0, image, weights)
            weights /= total[image]
            shift, view = candidate // r, candidate % r
            right += torch.sparse.mm(_sparse(view, image * t + shift, weights, (r, b * t)), tile.rows)
            left += torch.sparse.mm(_sparse(view, image, weights, (r, b)), tile.weight)
        marginal[here] = best[here] + (total / (t * r)).log()
    return Batch(torch.view_as_complex(right.view(r, m, 2)), left, best, marginal, place % r, place // r)


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_coo_tensor(torch.stack([rows, columns]), values, shape, check_invariants=False)


@dataclass(frozen=True)
class Marching:
    """How a run goes: bands in shells, steps at each, images in a batch.

    Attributes:
        first, last: the band at the beginning and at the end.
        steps: at the first and at every later half shell.
        batch: images of the first and of the last step.
        fill: how large the particle is in its box, against one that the figures above are meant for. Of a smaller one
            a shell tells fewer views apart.
    """

    first: float
    last: float
    steps: int = 14
    batch: tuple[int, int] = (200, 500)
    fill: float = 1.0

    def filled(self, fill: float, last: float) -> "Marching":
        """The same for a particle of another size: the same details, in bands up to ``last``."""
        first, end = (
            round(2 * min(band / fill, last - back)) / 2 for band, back in ((self.first, 2.0), (self.last, 0.0))
        )
        return replace(self, first=first, last=max(end, first), fill=fill)

    @property
    def bands(self) -> list[float]:
        """The band of every step."""
        halves = [self.first + 0.5 * i for i in range(round(2 * (self.last - self.first)) + 1)]
        return [halves[0]] * self.steps + [band for band in halves for _ in range(self.steps)]


@dataclass(frozen=True)
class StochasticMap:
    """A map, how far its band has come, and what the last batch said.

    Attributes:
        volume: [z, y, x].
        shells: the band it was compared in last.
        noise: the noise's variance per shell as a share of what it was taken to be.
        agreement: Fourier correlation of pseudo half-maps (every second batch, same assignments) at the band's edge.
    """

    volume: Float[Tensor, "d d d"]
    shells: float
    agreement: float
    noise: Float[Tensor, " d"]


def stochastic_map(
    images: BandImages,
    shown: Int[np.ndarray, " n"],
    marching: Marching,
    reach_angstrom: float,
    seed: int,
    group: Float[Tensor, "g 3 3"],
    start: Float[Tensor, "d d d"] | None = None,
    kept: float = 1.0,
    progress: Callable[[float, str], None] = lambda share, said: None,
) -> StochasticMap:
    """A map from nothing, or on from ``start``.

    Args:
        shown: which image each row shows, from 0; all rows of one are in one half.
        reach_angstrom: how far particles lie from the centre of their image, at most, along an axis.
        group: rotations that lay the particle on itself (:mod:`.symmetry`).
        kept: share of the noise's power that a window has left in the images.
    """
    generator, box = np.random.default_rng(seed), images.plane.box
    rows = shuffled(shown, generator)
    halves = np.split(rows, [between_images(rows, shown, (len(rows) + 1) // 2)])
    sums, ball = [DecayingEquations(box, group) for _ in halves], soft_ball(box, BALL)
    bands, volume, done, noise = marching.bands, start, marching.first, NoiseShare(box, kept)
    for step, shells in enumerate(bands):
        if shells > done and _agreement(sums, done, ball) < LEAST_AGREEMENT:
            shells = done
        done, half = shells, step % 2
        progressed = step / max(1, len(bands) - 1)
        size = round(marching.batch[0] + progressed * (marching.batch[1] - marching.batch[0]))
        # Sums that forget are a mean over batches; all of these together say as much as so many of them.
        count = max(1.0, min(0.5 / FORGET, 0.5 * len(images) / size))
        rows = generator.choice(halves[half], min(size, len(halves[half])), replace=False)
        batch = images.take(torch.from_numpy(rows)).band(shells)
        batch = batch.with_less_noise(noise.of(batch))
        if volume is None or (start is None and step < 2):
            rotations = _even_rotations(len(rows), generator) if batch.cone is None else batch.cone.given
            sums[half].add(batch.plane, rotations, batch.data, batch.weight)
        else:
            rotations = _even_rotations(max(LEAST_VIEWS, view_count(marching.fill * shells)), generator)
            rotations = rotations[in_asymmetric_unit(rotations, group)]
            shifts = shift_grid(*shift_steps(images.side_angstrom, reach_angstrom, shells))
            slices = views(volume, batch.plane, rotations)
            found = expectation(batch, slices, rotations, shifts)
            # A half is added to in every second step.
            share = max(2 * FORGET, 2 / (step + 1)) if step > 6 else 0.5
            noise.update(batch, found.explained(slices), share)
            sums[half].forget(share if step > 1 else 1.0)
            sums[half].add(batch.plane, rotations, found.right * share, found.left * share)
            progress(progressed, f"band {shells:g}, log likelihood {float(found.marginal.mean()):.1f}")
        volume = sums[0].merged_with(sums[1]).solve(shells, count) * ball
        if shells < POSITIVE_BELOW * marching.last:
            volume = volume.clamp_min(0)
    assert volume is not None
    return StochasticMap(volume, done, _agreement(sums, done, ball), noise.share)


def shift_steps(
    side_angstrom: float, reach_angstrom: float, shells: float, step: float = SHIFT_STEP
) -> tuple[float, int]:
    """Step and number of steps either way of a grid of shifts that reaches so far.

    Steps are at most the share ``step`` of the finest detail in the band.
    """
    number = max(1, math.ceil(reach_angstrom * shells / side_angstrom / step))
    return reach_angstrom / number, number


def _agreement(sums: list[DecayingEquations], shells: float, ball: Tensor) -> float:
    """Correlation of the maps of two halves in the outer shell of the band."""
    one, other = (fourier_from_volume(each.solve(shells) * ball) for each in sums)
    edge = (half_volume_radii(ball.shape[-1], PADDING) - shells + 0.5).abs() <= 0.5
    cross = (one * other.conj()).real[edge].sum()
    return float(cross / (one[edge].abs().square().sum() * other[edge].abs().square().sum()).sqrt().clamp_min(1e-12))


def _even_rotations(count: int, generator: np.random.Generator) -> Float[Tensor, "r 3 3"]:
    return torch.from_numpy(uniform_rotations(count, int(generator.integers(2**31)))).float()

r"""A map from images without poses, by stochastic expectation maximisation over rotations and shifts.

A step takes a few hundred images, compares them with a few hundred to a few thousand views of the map as it is
(:mod:`.matching`), and adds them, weighted by their posterior over views and shifts, to normal equations that forget:

    N <- (1 - h) N + h sum_i sum_(r, d) p_i(r, d) C_i Y_i / s^2,     V = N / (D + 1 / tau^2),   h = 0.08

The views are an even set of rotations, turned at random in every step. The band of frequencies begins at some five
shells and grows. What is known to matter: noise variance as the background has it (with the power of the images
instead, posteriors stay flat and the map stays round), no annealing, a soft sphere, and positivity at the beginning.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoformer.imaging.projection import grid_points
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.imaging.slices import (
    SlicePlane,
    add_friedel_mates,
    insert_slices,
    interpolate_slices,
    padded_shape,
    volume_from_fourier,
)
from cryoformer.poses.matching import TILE, BandImages, score_tiles, shift_grid, views
from cryoformer.linear.normal_equations import padded_radii

# Posterior weights below this share of an image's largest are left out.
LEAST_WEIGHT = math.exp(-11.0)
# A view that differs by this share of the finest detail's size differs visibly: 2 / (0.6 k) radians between views.
VIEW_STEP = 2.0 / 0.6


def view_count(shells: float, share: float = 1.0) -> int:
    """Rotations of an even set whose neighbours a band of so many shells tells apart: 8 pi^2 / step^3."""
    return int(share * 8 * math.pi**2 * (shells / VIEW_STEP) ** 3)


class DecayingEquations:
    """Sums over images for one map, which forget."""

    def __init__(self, box: int) -> None:
        self.box, voxels = box, math.prod(padded_shape(box))
        self.right = torch.zeros(voxels, dtype=torch.complex64)
        self.left = torch.zeros(voxels)

    def add(
        self,
        plane: SlicePlane,
        rotations: Float[Tensor, "r 3 3"],
        right: Complex[Tensor, "r m"],
        left: Float[Tensor, "r m"],
        share: float,
    ) -> None:
        """Sums of a batch, already weighted, at these views; what was there before keeps 1 - share."""
        self.right.mul_(1 - share)
        self.left.mul_(1 - share)
        for some in torch.arange(len(rotations)).split(max(1, TILE // (4 * len(plane.index)))):
            where = interpolate_slices(plane, rotations[some])
            insert_slices(
                self.right, torch.complex(right[some].real, right[some].imag * where.conjugate) * share, where
            )
            insert_slices(self.left, left[some] * share, where)

    def merged_with(self, other: "DecayingEquations") -> "DecayingEquations":
        """The sums of both."""
        both = DecayingEquations(self.box)
        both.right, both.left = self.right + other.right, self.left + other.left
        return both

    def solve(self, shells: float) -> Float[Tensor, "d d d"]:
        """The map up to a band's edge, with a Wiener prior from the power per shell of the sums themselves."""
        shape, box = padded_shape(self.box), self.box
        right, left = torch.view_as_real(self.right.view(shape)).clone(), self.left.view(*shape, 1).clone()
        add_friedel_mates(right[..., :1], 1.0)
        add_friedel_mates(right[..., 1:], -1.0)
        add_friedel_mates(left, 1.0)
        left, radius = left[..., 0], padded_radii(box)
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
    return torch.sigmoid(share * box - grid_points(box, 1.0).norm(dim=1)).reshape(box, box, box)


@dataclass
class Batch:
    """What a batch of images says: sums at the views, and the log likelihood of each at its best pose and on average."""

    right: Complex[Tensor, "r m"]
    left: Float[Tensor, "r m"]
    best: Float[Tensor, " b"]
    marginal: Float[Tensor, " b"]
    view: Tensor
    shift: Tensor


def expectation(images: BandImages, slices: Complex[Tensor, "r m"], shifts: Float[Tensor, "t 2"]) -> Batch:
    """Posteriors of all images over views and shifts, and the sums for the next map."""
    r, m = slices.shape
    right, left = torch.zeros(r, 2 * m), torch.zeros(r, m)
    best, marginal = (torch.empty(len(images)) for _ in range(2))
    place = torch.empty(len(images), dtype=torch.long)
    for tile in score_tiles(images, slices, shifts):
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
            order = view.argsort()
            entries, view, image = weights[order], view[order], image[order]
            matrix = torch.sparse_coo_tensor(torch.stack([view, image * t + shift[order]]), entries, (r, b * t))
            right += torch.sparse.mm(matrix, tile.rows)
            left += torch.sparse.mm(torch.sparse_coo_tensor(torch.stack([view, image]), entries, (r, b)), tile.weight)
        marginal[here] = best[here] + (total / (t * r)).log()
    return Batch(
        torch.view_as_complex(right.view(r, m, 2)), left, best, marginal, place % r, place // r
    )

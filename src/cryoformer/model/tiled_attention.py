r"""Density by spatial attention on a CPU: tiles of points, nothing stored, everything recomputed in the backward pass.

The arithmetic is that of :func:`cryoformer.model.spatial_attention.point_density_plain`, per image i and point x:

    a = softmax_n(scale phi(x) . k_n),   h = ReLU(sum_n a_n v_n + r(x)),   sigma = w2 . h + b2.

Stored as the textbook has it, the N weights per point and image are gigabytes a step, and a CPU spends its time on
moving them. Here a tile of points is small enough for its weights to stay in the cache, between the matrix products
and the elementwise passes over them. What else is worth knowing:

* Points are the last axis: [images, N, points]. All products then run at the speed of large ones, softmax sums are
  sums of rows, and what belongs to a point broadcasts along contiguous memory.
* Keys carry scale * log2(e), for exp2 takes half the time of exp, and are centred over n, which softmax does not see.
  Where norms then bound the logits, no maximum is subtracted; else it is.
* The residual enters as what the product with the values adds to: no pass of its own.
* Backward, with m = g [h > 0] and W = w2 v: da = m W^T, dlogit = a (da - sum a da), dv = w2 a^T m, dr = w2 sum_i m. The
  hidden values are not needed again: sum g h, the gradient of w2, is sum_n v (a^T m) + sum r m.

Each tile costs two products forward and six backward; they are some three quarters of the time.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Barrier
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

LOG2E = math.log2(math.e)
# Elements of a tile's weights, a megabyte of float32, and images that share a tile. Measured on cores
# with a megabyte of second-level cache: half as many elements, or two or four times as many images (which leaves fewer
# points a tile, and the last axis short), were 5 to 20 % slower.
TILE_ELEMENTS = 2**18
TILE_IMAGES = 8
_tile_threads = 1
LEAST_POINTS = 256  # a thread should have, to be worth waking
# 2^60 leaves room for the sum over n, the product with values and their gradients on either side of 1.
LARGEST_SAFE_LOGIT = 60.0


@dataclass(frozen=True)
class _Group:
    """The operands of some images, laid out for the products of a tile."""

    images: slice
    keys: Tensor  # [b n, c], with scale log2(e), centred over n
    values: Tensor  # [b, h, n]
    count: int  # of images

    @property
    def queries(self) -> int:
        return self.values.shape[2]

    def weights_and_hidden(
        self, features: Tensor, residual: Tensor, bounded: bool, weights: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """a [b, n, t] and sum_n a_n v_n + r [b, h, t], before the ReLU, for features [t, c] and residual [h, t].

        They lie in the buffers ``weights`` and ``hidden``.
        """
        t = len(features)
        flat = weights[: len(self.keys) * t].view(-1, t)
        torch.mm(self.keys, features.t(), out=flat)
        a = flat.view(self.count, self.queries, t)
        if not bounded:
            a.sub_(a.amax(dim=1, keepdim=True))
        a.exp2_()
        a.mul_(a.sum(dim=1, keepdim=True).reciprocal_())
        h = hidden[: self.count * len(residual) * t].view(self.count, -1, t)
        torch.baddbmm(residual.expand_as(h), self.values, a, out=h)
        return a, h


class _Tiling:
    """Groups of images, tiles of points and the buffers that they share."""

    def __init__(self, features: Tensor, keys: Tensor, values: Tensor, residual: Tensor, scale: float) -> None:
        images, n, hidden = values.shape
        self.features, self.residual = features, residual
        keys = (keys - keys.mean(dim=1, keepdim=True)).mul_(scale * LOG2E)
        self.bounded = bool(_largest_logit(features, keys) <= LARGEST_SAFE_LOGIT)  # False too for NaN
        values = values.transpose(1, 2).contiguous()
        group = min(images, TILE_IMAGES)
        slices = [slice(i, min(i + group, images)) for i in range(0, images, group)]
        self.groups = [_Group(s, keys[s].flatten(0, 1), values[s], s.stop - s.start) for s in slices]
        wanted = max(16, TILE_ELEMENTS // (group * n))
        # Of even size, rather than a small one at the end.
        self.tile = math.ceil(len(features) / math.ceil(len(features) / wanted))
        self.weights = features.new_empty(group * n * self.tile)
        self.hidden = features.new_empty(group * hidden * self.tile)
        self.scratch = features.new_empty(max(self.weights.numel(), self.hidden.numel()))
        self._residual_tile = residual.new_empty(hidden * self.tile)

    def tiles(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Points of a tile, their features [t, c] and residual [h, t]."""
        for features, residual, start in zip(
            self.features.split(self.tile),
            self.residual.split(self.tile),
            range(0, len(self.features), self.tile),
            strict=True,
        ):
            # Copied, for rows of the transpose lie a whole [p] apart: slow to walk along for every image.
            transposed = self._residual_tile[: residual.numel()].view(-1, len(residual)).copy_(residual.t())
            yield slice(start, start + len(features)), features, transposed


def _largest_logit(features: Tensor, keys: Tensor) -> Tensor:
    """An upper bound of |features . keys|, from norms; around the mean feature, which all points share."""
    mean = features.mean(dim=0)
    spread = torch.linalg.vector_norm(features - mean, dim=1).max() * torch.linalg.vector_norm(keys, dim=2).max()
    return spread + (keys @ mean).abs().max()


class _GroupSums:
    """Sums over points for the gradients of a group's keys and values."""

    def __init__(self, group: _Group, w2: Tensor) -> None:
        self.group = group
        self.keys = group.keys.t().contiguous()  # [c, b n]
        self.weighted_values = group.values.transpose(1, 2) * w2  # [b, n, h]
        self.to_keys = torch.zeros_like(self.keys)
        self.to_values = torch.zeros_like(self.weighted_values)  # a^T m: without w2, whose own gradient needs it so

    def add(
        self,
        tiling: _Tiling,
        features: Tensor,
        residual: Tensor,
        gradient: Tensor,
        to_features: Tensor | None,
        to_residual: Tensor,
    ) -> None:
        """Add a tile: features [t, c], residual [h, t], the density's gradient [b, t]; sums [c, t] and [h, t] grow."""
        a, h = self.group.weights_and_hidden(features, residual, tiling.bounded, tiling.weights, tiling.hidden)
        # m = gradient where h > 0, else 0: one pass instead of a comparison and a product.
        m = torch.ops.aten.threshold_backward.grad_input(gradient[:, None].expand_as(h), h, 0.0, grad_input=h)
        to_residual.add_(m.sum(dim=0))
        torch.baddbmm(self.to_values, a, m.transpose(1, 2), out=self.to_values)
        if to_features is None:
            return
        to_logits = tiling.scratch[: a.numel()].view_as(a)
        torch.bmm(self.weighted_values, m, out=to_logits)
        to_logits.mul_(a)
        to_logits.addcmul_(a, to_logits.sum(dim=1, keepdim=True), value=-1)
        flat = to_logits.view(-1, len(features))
        to_features.addmm_(self.keys, flat)
        self.to_keys.addmm_(features.t(), flat.t())


def _density(features: Tensor, residual: Tensor, keys: Tensor, values: Tensor, w2: Tensor, scale: float) -> Tensor:
    """sigma - b2 [b, p] at some points, by one thread."""
    density = features.new_empty(len(keys), len(features))
    tiling = _Tiling(features, keys, values, residual, scale)
    output = w2.expand(tiling.groups[0].count, 1, -1).contiguous()
    for points, tile_features, tile_residual in tiling.tiles():
        for group in tiling.groups:
            _, h = group.weights_and_hidden(tile_features, tile_residual, tiling.bounded, tiling.weights, tiling.hidden)
            density[group.images, points] = torch.bmm(output[: group.count], h.relu_())[:, 0]
    return density


def _gradients(
    features: Tensor,
    residual: Tensor,
    gradient: Tensor,
    keys: Tensor,
    values: Tensor,
    w2: Tensor,
    scale: float,
    logits: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For some points, by one thread: gradients of features and residual, sums for keys and values; w2 left out."""
    to_features, to_residual = torch.zeros_like(features), torch.zeros_like(residual)
    to_keys, to_values = torch.zeros_like(keys), torch.zeros_like(values)
    tiling = _Tiling(features, keys, values, residual, scale)
    sums = [_GroupSums(group, w2) for group in tiling.groups]
    for points, tile_features, tile_residual in tiling.tiles():
        features_sum = features.new_zeros(features.shape[1], len(tile_features)) if logits else None
        residual_sum = torch.zeros_like(tile_residual)
        for part in sums:
            tile_gradient = gradient[part.group.images, points]
            part.add(tiling, tile_features, tile_residual, tile_gradient, features_sum, residual_sum)
        to_residual[points] = residual_sum.t()
        if features_sum is not None:
            to_features[points] = features_sum.t()
    for part in sums:
        to_keys[part.group.images] = part.to_keys.t().reshape(part.group.count, *keys.shape[1:])
        to_values[part.group.images] = part.to_values
    return to_features, to_residual, to_keys, to_values


def _share(work: Callable[..., Any], by_point: Sequence[Tensor]) -> list[Any]:
    """``work(*slices)`` for one range of points per thread, each on a thread of its own.

    Tiles are too small to be worth splitting operation by operation: a fork and a join each cost as much as a tenth of
    the work, and far more where another program holds a core.
    """
    threads = max(1, min(max(torch.get_num_threads(), _tile_threads), len(by_point[0]) // LEAST_POINTS))
    if threads == 1:
        return [work(*by_point)]
    slices = zip(*(torch.tensor_split(tensor, threads) for tensor in by_point), strict=True)
    with torch.no_grad():
        return list(_pool(threads).map(lambda pieces: _quietly(work, pieces), slices))


@contextmanager
def small_operations() -> Iterator[None]:
    """Within, tiles are shared by all threads, every other operation by a quarter of them.

    A training step is a thousand operations of some ten microseconds. To wake a second thread for each costs more than
    it does: on two cores a step is a third slower for it.
    """
    global _tile_threads
    before, whole = _tile_threads, torch.get_num_threads()
    _tile_threads = whole
    torch.set_num_threads(max(1, whole // 4))
    try:
        yield
    finally:
        _tile_threads = before
        torch.set_num_threads(whole)


def _quietly(work: Callable[..., Any], pieces: Sequence[Tensor]) -> Any:
    with torch.no_grad():  # the mode belongs to the thread
        return work(*pieces)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads on which an operation of torch runs by itself."""
    whole = torch.get_num_threads()

    def alone() -> None:
        torch.set_num_threads(1)

    pool = ThreadPoolExecutor(threads, initializer=alone)
    barrier = Barrier(threads)
    list(pool.map(lambda _: barrier.wait(), range(threads)))  # start them all
    torch.set_num_threads(whole)
    return pool


class _TiledDensity(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        keys: Tensor,
        values: Tensor,
        residual: Tensor,
        w2: Tensor,
        b2: Tensor,
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(features, keys, values, residual, w2)
        ctx.scale = scale
        if len(keys) * len(features) == 0:
            return features.new_empty(len(keys), len(features))
        parts = _share(lambda f, r: _density(f, r, keys, values, w2, scale), (features, residual))
        return torch.cat(parts, dim=1).add_(b2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        features, keys, values, residual, w2 = ctx.saved_tensors
        if gradient.numel() == 0:
            return *(torch.zeros_like(x) for x in (features, keys, values, residual, w2)), gradient.sum(), None
        logits = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        parts = _share(
            lambda f, r, g: _gradients(f, r, g.t(), keys, values, w2, ctx.scale, logits),
            (features, residual, gradient.t()),
        )
        to_features, to_residual = (torch.cat([part[place] for part in parts]) for place in (0, 1))
        to_keys, to_values = (sum(part[place] for part in parts) for place in (2, 3))
        to_w2 = (values * to_values).sum(dim=(0, 1)) + (residual * to_residual).sum(dim=0)
        # The keys of the products carry scale log2(e): the features' gradient has both, the keys' has neither.
        to_features.mul_(1.0 / LOG2E)
        return to_features, to_keys * ctx.scale, to_values * w2, to_residual * w2, to_w2, gradient.sum(), None


def point_density_tiled(
    features: Float[Tensor, "p c"],
    keys: Float[Tensor, "b n c"],
    values: Float[Tensor, "b n h"],
    residual: Float[Tensor, "p h"],
    w2: Float[Tensor, " h"],
    b2: Float[Tensor, ""],
    scale: float | None = None,
) -> Float[Tensor, "b p"]:
    """Density [b, p], equal to ``point_density_plain`` of the same arguments; differentiable (once) in the first six.

    Memory beyond the result: some megabytes of tiles, whatever the number of points and images.
    """
    scale = features.shape[1] ** -0.5 if scale is None else scale
    return _TiledDensity.apply(features, keys, values, residual, w2, b2, scale)  # type: ignore[no-any-return]

r"""Parts that move together: places whose change between states follows the same pattern.

For pairs of states (s, s') the pattern of a place x is delta(x) = |a(x, s) - a(x, s')|^2, with a what the network says
at x (its attention weights, or the density where it has none). Places that follow the same motion change much between
the same states and little between the same others, whether they gain or lose; places with motions of their own do not.
Patterns are compared by their correlation and grouped by average linkage, so how many parts there are is found, not
given. Two parts that always move in step count as one: the data cannot tell.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import fcluster, linkage

LEAST_CORRELATION = 0.5
"""Groups are joined while their places correlate at least so much on average."""
SAMPLE = 1500
SMALLEST_SHARE = 0.05
"""Groups with less of the moving places than this join the part they are most like."""


def moving_parts(patterns: Float[np.ndarray, "p q"], seed: int = 0) -> Int[np.ndarray, " p"]:
    """Part of every place, from 0, the largest first."""
    if len(patterns) < 3:
        return np.zeros(len(patterns), dtype=np.int64)
    courses = _standardised(patterns)
    some = np.random.default_rng(seed).permutation(len(courses))[:SAMPLE]
    tree = linkage(courses[some], method="average", metric="sqeuclidean")
    # Unit vectors: squared distance = 2 (1 - correlation).
    groups = fcluster(tree, 2.0 * (1.0 - LEAST_CORRELATION), criterion="distance")
    numbers, sizes = np.unique(groups, return_counts=True)
    kept = numbers[sizes >= max(SMALLEST_SHARE * len(some), 1)]
    kept = kept if len(kept) else numbers[[int(sizes.argmax())]]
    middles = np.stack([courses[some][groups == number].mean(axis=0) for number in kept])
    middles /= np.maximum(np.linalg.norm(middles, axis=1, keepdims=True), 1e-300)
    nearest = (courses @ middles.T).argmax(axis=1)
    order = np.argsort(-np.bincount(nearest, minlength=len(kept)), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return np.asarray(rank[nearest], dtype=np.int64)


def query_parts(deviation: Float[np.ndarray, "p n"], parts: Int[np.ndarray, " p"]) -> Int[np.ndarray, " n"]:
    """The part in which each query's attention changes most (mean variance over the part's places)."""
    variance = [(deviation[parts == part] ** 2).mean(axis=0) for part in range(int(parts.max()) + 1)]
    return np.asarray(np.argmax(variance, axis=0), dtype=np.int64)


def _standardised(patterns: Float[np.ndarray, "p q"]) -> Float[np.ndarray, "p q"]:
    """Roots of the squared changes, without mean, of length 1: products are correlations."""
    courses = np.sqrt(np.asarray(patterns, dtype=np.float64).clip(0.0))
    courses = courses - courses.mean(axis=1, keepdims=True)
    return np.asarray(courses / np.maximum(np.linalg.norm(courses, axis=1, keepdims=True), 1e-300))


def density_patterns(
    volumes: Iterable[Float[np.ndarray, "d d d"]], voxels: Int[np.ndarray, " p"], pairs: Int[np.ndarray, "q 2"]
) -> Float[np.ndarray, "p q"]:
    """Patterns of the density at some voxels (indices into the flattened volume), for a network without attention."""
    states = np.stack([volume.ravel()[voxels] for volume in volumes])
    return np.asarray(((states[pairs[:, 0]] - states[pairs[:, 1]]) ** 2).T)

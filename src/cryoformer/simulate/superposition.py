"""Rigid superposition of matched points, and the search for parts that move as one body.

A rigid motion is a pair (rotation [3, 3], translation [3]) that takes x to ``rotation @ x + translation``. All points
are [p, 3] in (x, y, z), Angstrom, float64.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

WINDOW = 12
"""Residues in a seed of the search: three turns of a helix, enough to fix a rotation roughly."""
MOST_SEEDS = 250
REFINEMENTS = 15
CONTACT_ANGSTROM = 10.0
"""Two representative atoms closer than this touch; consecutive C-alphas are 3.8 A apart, phosphates 6-7 A."""


class RigidTransform(NamedTuple):
    """x -> rotation @ x + translation."""

    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, " 3"]

    def apply(self, points: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "p 3"]:
        """The points, moved."""
        return points @ self.rotation.T + self.translation

    def after(self, first: "RigidTransform") -> "RigidTransform":
        """The motion that does ``first`` and then this one."""
        return RigidTransform(self.rotation @ first.rotation, self.rotation @ first.translation + self.translation)

    def inverse(self) -> "RigidTransform":
        """The motion that undoes this one."""
        return RigidTransform(self.rotation.T, -self.rotation.T @ self.translation)


def superpose(
    source: Float[np.ndarray, "p 3"], target: Float[np.ndarray, "p 3"], weights: Float[np.ndarray, " p"] | None = None
) -> RigidTransform:
    """The motion that brings ``source`` onto ``target`` with the least (weighted) squared distance."""
    used = np.ones((1, len(source))) if weights is None else weights[None]
    rotations, translations = _superpose_many(source, target, used)
    return RigidTransform(rotations[0], translations[0])


def largest_rigid_body(
    source: Float[np.ndarray, "p 3"],
    target: Float[np.ndarray, "p 3"],
    chain_index: Int[np.ndarray, " p"],
    tolerance_angstrom: float,
    connected: bool,
) -> tuple[RigidTransform, Bool[np.ndarray, " p"]]:
    """The rigid motion that explains most of the points, and the points it explains within the tolerance.

    Every window of consecutive residues of a chain proposes a motion; each is refitted to the points it explains
    until it has grown as far as it can. The proposals are fixed, so the answer does not depend on chance. With
    ``connected`` only the largest group of points in contact with one another counts: a domain, not a scatter of
    points that happen to agree.
    """
    weights = _windows(chain_index)
    if len(weights) == 0:
        weights = np.ones((1, len(source)))
    for _ in range(REFINEMENTS):
        rotations, translations = _superpose_many(source, target, weights)
        moved = np.einsum("sij,pj->spi", rotations, source) + translations[:, None]
        inside = np.linalg.norm(moved - target, axis=-1) < tolerance_angstrom
        enough = inside.sum(axis=1) >= 4
        weights[enough] = inside[enough]
    best = (RigidTransform(rotations[0], translations[0]), np.zeros(len(source), dtype=bool))
    # Most proposals end up in the same few motions, so a handful of the best is enough to look at closely.
    for seed in np.argsort(-inside.sum(axis=1), kind="stable")[:20]:
        members = inside[seed] & largest_group(source, inside[seed]) if connected else inside[seed]
        if members.sum() > best[1].sum():
            best = (RigidTransform(rotations[seed], translations[seed]), members)
    return best


def contacts(points: Float[np.ndarray, "p 3"]) -> Int[np.ndarray, "c 2"]:
    """Pairs of points closer than ``CONTACT_ANGSTROM``."""
    return cKDTree(points).query_pairs(CONTACT_ANGSTROM, output_type="ndarray").astype(np.int64).reshape(-1, 2)


def largest_group(points: Float[np.ndarray, "p 3"], members: Bool[np.ndarray, " p"]) -> Bool[np.ndarray, " p"]:
    """The largest set of members linked by contacts."""
    index = np.flatnonzero(members)
    group = np.zeros(len(points), dtype=bool)
    if len(index) == 0:
        return group
    pairs = contacts(points[index])
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(index), len(index)))
    _, labels = connected_components(graph, directed=False)
    group[index[labels == np.bincount(labels).argmax()]] = True
    return group


def _superpose_many(
    source: Float[np.ndarray, "p 3"], target: Float[np.ndarray, "p 3"], weights: Float[np.ndarray, "s p"]
) -> tuple[Float[np.ndarray, "s 3 3"], Float[np.ndarray, "s 3"]]:
    """One superposition (Kabsch) per row of weights."""
    total = weights.sum(axis=1, keepdims=True)
    source_centre, target_centre = weights @ source / total, weights @ target / total
    products = np.einsum("pi,pj->pij", target, source).reshape(len(source), 9)
    covariance = (weights @ products).reshape(-1, 3, 3)
    covariance -= total[:, :, None] * target_centre[:, :, None] * source_centre[:, None, :]
    left, _, right = np.linalg.svd(covariance)
    # A reflection fits mirror images better than any rotation does: take it back in the weakest direction.
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    rotations = left @ right
    return rotations, target_centre - np.einsum("sij,sj->si", rotations, source_centre)


def _windows(chain_index: Int[np.ndarray, " p"]) -> Float[np.ndarray, "s p"]:
    starts = [i for i in range(len(chain_index) - WINDOW + 1) if chain_index[i] == chain_index[i + WINDOW - 1]]
    stride = max(1, min(4, len(starts) // 50), -(-len(starts) // MOST_SEEDS))
    rows = np.zeros((len(starts[::stride]), len(chain_index)))
    for row, start in zip(rows, starts[::stride], strict=True):
        row[start : start + WINDOW] = 1.0
    return rows

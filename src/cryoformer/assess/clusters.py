"""K-means clusters of the latents: a description of the cloud, not a claim that there are that many states."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

CLUSTERS = 10
"""As in the paper (appendix D)."""
FULL_KMEANS = 20_000
"""Above so many particles the centres come from mini-batches, which takes seconds for a million."""
DRAWS = 24


@dataclass(frozen=True)
class Clusters:
    """Clusters, largest first. A centre is a particle: means of latents can lie off the data."""

    particles: Int[np.ndarray, " c"]
    """The particle nearest to each centre."""
    sizes: Int[np.ndarray, " c"]
    labels: Int[np.ndarray, " n"]
    """The cluster of every particle, from 0."""
    centres: Float[np.ndarray, "c k"]


@dataclass(frozen=True)
class Shares:
    """Share of the particles per cluster, and how certain it is."""

    share: Float[np.ndarray, " c"]
    deviation: Float[np.ndarray, " c"]
    """Standard deviation of the share over bootstrap samples of the particles, each drawn from its latent posterior."""
    certainty: Float[np.ndarray, " c"]
    """How often a draw from the posterior of a particle of this cluster falls into the same cluster again."""


def clusters(latents: Float[np.ndarray, "n k"], count: int = CLUSTERS, seed: int = 0) -> Clusters:
    """K-means clusters of the latents; fewer than ``count`` where there are fewer different latents."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    values = np.asarray(latents, dtype=np.float64)
    count = min(count, len(np.unique(values[: 100 * count], axis=0)))
    if len(values) > FULL_KMEANS:
        fit = MiniBatchKMeans(n_clusters=count, batch_size=4096, n_init=5, random_state=seed).fit(values)
    else:
        fit = KMeans(n_clusters=count, n_init=4, random_state=seed).fit(values)
    sizes = np.bincount(fit.labels_, minlength=count)
    order = np.argsort(-sizes, kind="stable")[: int((sizes > 0).sum())]
    rank = np.zeros(count, dtype=np.int64)
    rank[order] = np.arange(len(order))
    centres = fit.cluster_centers_[order]
    nearest = cKDTree(values).query(centres)[1].astype(np.int64)
    return Clusters(nearest, sizes[order].astype(np.int64), rank[fit.labels_], centres)


def cluster_shares(
    found: Clusters, latents: Float[np.ndarray, "n k"], covariance: Float[np.ndarray, "n k k"], seed: int = 0
) -> Shares:
    """Shares of the particles with their uncertainty, by drawing particles (with replacement) and their latents."""
    rng = np.random.default_rng(seed)
    tree, count, n = cKDTree(found.centres), len(found.sizes), len(latents)
    draws, again = np.zeros((DRAWS, count)), np.zeros(count)
    for draw in range(DRAWS):
        _, labels = tree.query(draw_latents(latents, covariance, rng))
        again += np.bincount(found.labels[labels == found.labels], minlength=count)
        draws[draw] = np.bincount(labels[rng.integers(0, n, n)], minlength=count) / n
    return Shares(found.sizes / n, draws.std(axis=0, ddof=1), again / (DRAWS * found.sizes))


def draw_latents(
    latents: Float[np.ndarray, "n k"], covariance: Float[np.ndarray, "n k k"], rng: np.random.Generator
) -> Float[np.ndarray, "n k"]:
    """One draw of every latent from its Gaussian posterior."""
    values, vectors = np.linalg.eigh(covariance)
    noise = np.sqrt(values.clip(0.0)) * rng.standard_normal(values.shape)
    return np.asarray(latents + np.einsum("nij,nj->ni", vectors, noise), dtype=np.float64)

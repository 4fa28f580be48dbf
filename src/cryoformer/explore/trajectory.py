"""Points of the latent space worth looking at: along the motion, and the centres of clusters.

Every point returned is the latent of a particle: means of latents can lie off the data, where the decoder was never
asked.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans

from cryoformer.assess.heterogeneity import principal_components
from cryoformer.assess.sources import class_means, nearest_latents
from cryoformer.assess.truth import Truth

FRAMES = 9
LOWEST_QUANTILE = 0.05
SLAB = 0.05
"""Share of the particles around a quantile whose mean latent stands for it."""
CLUSTERS = 6
MOST_CLUSTERED = 50_000


@dataclass(frozen=True)
class Trajectory:
    """Particles along a motion, in order."""

    particles: Int[np.ndarray, " m"]
    labels: list[str]
    states: Int[np.ndarray, " m"] | None
    """The true state that each point stands for, where the truth is known."""


@dataclass(frozen=True)
class Clusters:
    """K-means clusters, largest first."""

    particles: Int[np.ndarray, " c"]
    """The particle nearest to each centre."""
    sizes: Int[np.ndarray, " c"]


def component_trajectory(latents: Float[np.ndarray, "n k"], frames: int = FRAMES) -> Trajectory:
    """From one end of the first principal component of the latents to the other, at evenly spaced quantiles.

    The ends are the 5 % and 95 % quantiles. At each, the mean latent of the 5 % of particles around it is followed, so
    the path bends with the data.
    """
    order = np.argsort(principal_components(latents)[:, 0], kind="stable")
    quantiles = np.linspace(LOWEST_QUANTILE, 1.0 - LOWEST_QUANTILE, frames)
    half = max(int(SLAB / 2.0 * len(order)), 1)
    middles = [min(int(quantile * len(order)), len(order) - 1) for quantile in quantiles]
    means = np.stack([latents[order[max(middle - half, 0) : middle + half + 1]].mean(axis=0) for middle in middles])
    labels = [f"quantile {quantile:.0%}" for quantile in quantiles]
    return Trajectory(nearest_latents(latents, means), labels, None)


def truth_trajectory(latents: Float[np.ndarray, "n k"], truth: Truth, frames: int = FRAMES) -> Trajectory:
    """The particles nearest to the mean latents of evenly spaced true states, in the order of the motion."""
    present = np.unique(truth.state_of_image)
    present = present[np.argsort(truth.state_t[present], kind="stable")]
    chosen = present[evenly(len(present), frames)]
    particles = nearest_latents(latents, class_means(latents, truth.state_of_image, [int(s) for s in chosen]))
    return Trajectory(particles, [f"t = {truth.state_t[state]:.2f}" for state in chosen], chosen.astype(np.int64))


def evenly(available: int, wanted: int) -> Int[np.ndarray, " m"]:
    """At most ``wanted`` indices from 0 to ``available - 1``, both ends among them."""
    return np.unique(np.linspace(0, available - 1, min(wanted, available)).round().astype(np.int64))


def clusters(latents: Float[np.ndarray, "n k"], count: int = CLUSTERS, seed: int = 0) -> Clusters:
    """K-means clusters of the latents; a description of the cloud, not a claim that there are that many states."""
    values = np.asarray(latents, dtype=np.float64)
    count = min(count, len(np.unique(values, axis=0)))
    sample = values[:: -(-len(values) // MOST_CLUSTERED)]
    fit = KMeans(n_clusters=min(count, len(sample)), n_init=4, random_state=seed).fit(sample)
    sizes = np.bincount(fit.predict(values), minlength=len(fit.cluster_centers_))
    order = np.argsort(-sizes, kind="stable")
    return Clusters(nearest_latents(values, fit.cluster_centers_[order]), sizes[order].astype(np.int64))

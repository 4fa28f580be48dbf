r"""Free energy along a path from particles of which each is known only roughly: deconvolution by maximum likelihood.

The path has M places. What image i says of them is its likelihood L_im = p(Y_i | place m), from the images themselves
or, where an estimate x_i with Gaussian error S_i is known, N(x_i; place m, S_i). The populations are

    p_m = l_m exp(-F_m) / sum_n l_n exp(-F_n),       l_m: length of the path that place m stands for,

and F, in units of kT, maximises the likelihood of all images less a penalty for curvature,

    sum_i c_i log sum_m L_im p_m  -  n lambda / 2 int (F'')^2 ds,       s from 0 to 1 along the path.

Every particle's own uncertainty is in L, so nothing is smeared by it, and no prior is counted twice (a posterior mean
is drawn towards the other particles, and a histogram of posteriors is the prior over again). Without the penalty this
is Richardson-Lucy deconvolution, whose limit are spikes (Kiefer & Wolfowitz 1956); the penalty says that a free energy
is smooth. Its weight lambda is the one under which images that were left out of the fit are likeliest.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize

SMOOTHNESS = tuple(10.0**power for power in range(-4, -10, -1))
FOLDS = 5
ITERATIONS = 500


@dataclass(frozen=True)
class PathLikelihood:
    """What images say of places along a path.

    Attributes:
        likelihood: L_im, of each image relative to its best place.
        lengths: l_m, adding up to 1.
    """

    likelihood: Float[np.ndarray, "n m"]
    lengths: Float[np.ndarray, " m"]

    @staticmethod
    def from_logarithms(values: Float[np.ndarray, "n m"], lengths: Float[np.ndarray, " m"]) -> "PathLikelihood":
        """From log p(Y_i | m), up to a constant per image."""
        logs = values.astype(np.float64)
        return PathLikelihood(np.exp(logs - logs.max(axis=1, keepdims=True)), lengths / lengths.sum())

    def take(self, rows: np.ndarray) -> "PathLikelihood":
        """Of some images."""
        return PathLikelihood(self.likelihood[rows], self.lengths)

    def populations(self, energy: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """p_m."""
        return populations_of(energy, self.lengths)


def populations_of(energy: Float[np.ndarray, "*b m"], lengths: Float[np.ndarray, " m"]) -> Float[np.ndarray, "*b m"]:
    """p_m of one free energy, or of several."""
    weights = lengths * np.exp(-(energy - energy.min(axis=-1, keepdims=True)))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def middles(lengths: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Where on the path the places are that stand for these lengths, from 0."""
    return np.asarray(np.cumsum(lengths) - lengths / 2)


def fit_energy(
    images: PathLikelihood,
    smoothness: float,
    counts: Float[np.ndarray, " n"] | None = None,
    start: Float[np.ndarray, " m"] | None = None,
) -> Float[np.ndarray, " m"]:
    """F_m, the lowest at 0.

    Args:
        smoothness: lambda.
        counts: c_i, how often each image counts (None: once).
        start: an F to begin with.
    """
    places = len(images.lengths)
    weight = np.ones(len(images.likelihood)) if counts is None else counts
    weight = weight / weight.sum()
    curvature = np.diff(np.eye(places), 2, axis=0) * places**1.5
    penalty = smoothness * curvature.T @ curvature

    def loss(energy: np.ndarray) -> tuple[float, np.ndarray]:
        populations = images.populations(energy)
        evidence = images.likelihood @ populations
        # Expected share of the images at each place, less the share that F gives it.
        gradient = populations * (images.likelihood.T @ (weight / evidence)) - populations
        bent = penalty @ energy
        return float(-(weight @ np.log(evidence)) + 0.5 * energy @ bent), gradient + bent

    found = minimize(
        loss, np.zeros(places) if start is None else start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS}
    )
    return np.asarray(found.x - found.x.min())


def choose_smoothness(
    images: PathLikelihood, fold: Int[np.ndarray, " n"] | None = None, seed: int = 0
) -> tuple[float, dict[float, float]]:
    """The lambda under which left-out images are likeliest, and their mean log likelihood under each that was tried.

    ``fold``: part of every image; each part in turn is left out (None: five, drawn by ``seed``).
    """
    if fold is None:
        fold = np.random.default_rng(seed).permutation(len(images.likelihood)) % FOLDS
    parts = np.unique(fold)
    scores = dict.fromkeys(SMOOTHNESS, 0.0)
    for part in parts.tolist():
        start, others, left_out = None, images.take(fold != part), images.take(fold == part)
        # From smooth to rough: each fit begins where the last one ended.
        for smoothness in SMOOTHNESS:
            start = fit_energy(others, smoothness, start=start)
            found = np.log(left_out.likelihood @ left_out.populations(start)).sum()
            scores[smoothness] += float(found) / len(images.likelihood)
    return max(scores, key=lambda value: scores[value]), scores

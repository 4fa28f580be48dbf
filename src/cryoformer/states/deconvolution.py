r"""Free energy from particles whose places are each known only roughly: deconvolution by maximum likelihood.

A path, or a plane, has M places. What image i says of them is its likelihood L_im = p(Y_i | place m), from the images
themselves or, where an estimate x_i with Gaussian error S_i is known, N(x_i; place m, S_i). The populations are

    p_m = l_m exp(-F_m) / sum_n l_n exp(-F_n),       l_m: length (or area) of what place m stands for,

and F, in units of kT, maximises the likelihood of all images less a penalty for curvature,

    sum_i c_i log sum_m L_im p_m  -  n lambda / 2 int (F'')^2 ds,       s from 0 to 1 along the path,

or int (F_xx^2 + 2 F_xy^2 + F_yy^2) dx dy on a plane, x and y from 0 to 1.

Every particle's own uncertainty is in L, so nothing is smeared by it, and no prior is counted twice (a posterior mean
is drawn towards the other particles, and a histogram of posteriors is the prior over again). Without the penalty this
is Richardson-Lucy deconvolution, whose limit are spikes (Kiefer & Wolfowitz 1956); the penalty says that a free energy
is smooth. Its weight lambda is the one under which images that were left out of the fit are likeliest.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize

SMOOTHNESS = tuple(10.0**power for power in range(-4, -10, -1))
FOLDS = 5
OPTIONS = {"maxiter": 500, "ftol": 1e-10, "gtol": 1e-6}
LEAST_STIFFNESS = 1e-5


@dataclass(frozen=True)
class PlaceLikelihood:
    """What images say of places along a path or on a plane.

    Attributes:
        likelihood: L_im, of each image relative to its best place.
        sizes: l_m, adding up to 1.
        shape: of a path (m,), or of a plane (a, b), whose places are numbered row by row.
    """

    likelihood: Float[np.ndarray, "n m"]
    sizes: Float[np.ndarray, " m"]
    shape: tuple[int, ...]

    @staticmethod
    def from_logarithms(
        values: Float[np.ndarray, "n m"], sizes: Float[np.ndarray, " m"], shape: tuple[int, ...] | None = None
    ) -> "PlaceLikelihood":
        """From log p(Y_i | m), up to a constant per image; ``shape`` is None for a path."""
        logs = values.astype(np.float64)
        relative = np.exp(logs - logs.max(axis=1, keepdims=True))
        return PlaceLikelihood(relative, sizes / sizes.sum(), shape or (len(sizes),))

    @property
    def positions(self) -> Float[np.ndarray, "m d"]:
        """Of the places, from 0 to 1: by length along a path, and in even steps of either axis of a plane."""
        if len(self.shape) == 1:
            return middles(self.sizes)[:, None]
        axes = [np.linspace(0.0, 1.0, count) for count in self.shape]
        return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)

    def take(self, rows: np.ndarray) -> "PlaceLikelihood":
        """Of some images."""
        return replace(self, likelihood=self.likelihood[rows])

    def populations(self, energy: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """p_m."""
        return populations_of(energy, self.sizes)


def populations_of(energy: Float[np.ndarray, "*b m"], sizes: Float[np.ndarray, " m"]) -> Float[np.ndarray, "*b m"]:
    """p_m of one free energy, or of several."""
    weights = sizes * np.exp(-(energy - energy.min(axis=-1, keepdims=True)))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def middles(lengths: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Where on the path the places are that stand for these lengths, from 0."""
    return np.asarray(np.cumsum(lengths) - lengths / 2)


@cache
def bending(shape: tuple[int, ...]) -> Float[np.ndarray, "m m"]:
    """The matrix B with F^T B F = int (F'')^2 ds on a path, int (F_xx^2 + 2 F_xy^2 + F_yy^2) dx dy on a plane."""
    places = int(np.prod(shape))
    first, second = ([np.diff(np.eye(count), order, axis=0) * count**order for count in shape] for order in (1, 2))
    parts = list[np.ndarray](second)
    if len(shape) == 2:
        along_x, along_y = np.kron(second[0], np.eye(shape[1])), np.kron(np.eye(shape[0]), second[1])
        parts = [along_x, along_y, np.sqrt(2.0) * np.kron(*first)]
    return np.asarray(sum(part.T @ part for part in parts) / places)


def fit_energy(
    images: PlaceLikelihood,
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
    places = len(images.sizes)
    weight = np.ones(len(images.likelihood)) if counts is None else counts
    weight = weight / weight.sum()
    penalty = smoothness * bending(images.shape)

    begin = np.zeros(places) if start is None else start
    # In units in which the loss is about as steep in every direction: ten times fewer steps.
    share = images.populations(begin)
    stiffness = penalty + np.diag(share) - np.outer(share, share) + LEAST_STIFFNESS * np.eye(places)
    units = np.linalg.inv(np.linalg.cholesky(stiffness)).T

    def loss(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        energy = units @ scaled
        populations = images.populations(energy)
        evidence = images.likelihood @ populations
        # Expected share of the images at each place, less the share that F gives it.
        gradient = populations * (images.likelihood.T @ (weight / evidence)) - populations
        bent = penalty @ energy
        return float(-(weight @ np.log(evidence)) + 0.5 * energy @ bent), units.T @ (gradient + bent)

    found = minimize(loss, np.linalg.solve(units, begin), jac=True, method="L-BFGS-B", options=OPTIONS)
    energy = units @ found.x
    return np.asarray(energy - energy.min())


def choose_smoothness(
    images: PlaceLikelihood, fold: Int[np.ndarray, " n"] | None = None, seed: int = 0
) -> tuple[float, Float[np.ndarray, "n s"]]:
    """The lambda under which left-out images are likeliest, and the log likelihood of each under all of SMOOTHNESS.

    ``fold``: part of every image; each part in turn is left out (None: five, drawn by ``seed``).
    """
    if fold is None:
        fold = np.random.default_rng(seed).permutation(len(images.likelihood)) % FOLDS
    parts = np.unique(fold)
    scores = np.zeros((len(images.likelihood), len(SMOOTHNESS)))
    for part in parts.tolist():
        start, others, left_out = None, images.take(fold != part), images.take(fold == part)
        # From smooth to rough: each fit begins where the last one ended.
        for number, smoothness in enumerate(SMOOTHNESS):
            start = fit_energy(others, smoothness, start=start)
            scores[fold == part, number] = np.log(left_out.likelihood @ left_out.populations(start))
    return SMOOTHNESS[int(scores.sum(axis=0).argmax())], scores

"""How well latent coordinates tell the true conformation.

Two numbers, for latents [n, k] and a true coordinate t [n]:

* *R2 of nearest neighbours*: t of a particle is predicted as the mean t of its 25 nearest neighbours in latent space,
  itself left out, so no point predicts itself; R2 = 1 - sum (t - prediction)^2 / sum (t - mean t)^2. Distances are
  Euclidean in the latents as they are given: no whitening, because the scale that a method gives its latents is part
  of what it claims. Latents that tell nothing score about -1/25.
* *Spearman's rank correlation* of t with the first principal component of the latents, with the best of the components,
  and with the neighbours' prediction. Always the absolute value: the sign of a component means nothing. The best of k
  components profits from chance (about sqrt(2 ln k / n) with nothing to find); the first component does not.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

from cryoformer.assess.latent_space import principal_coordinates
from cryoformer.errors import InputError

NEIGHBOURS = 25
MOST_QUERIES = 20_000
"""At most this many particles, evenly strided, are predicted; neighbours are sought among all of them."""


@dataclass(frozen=True)
class LatentScores:
    """R2 and absolute Spearman correlations of latents with the true coordinate (see the module's text)."""

    knn_r2: float
    spearman_first_component: float
    spearman_best_component: float
    spearman_knn: float
    neighbours: int


def latent_scores(
    latents: Float[np.ndarray, "n k"], truth: Float[np.ndarray, " n"], neighbours: int = NEIGHBOURS
) -> LatentScores:
    """Compare latents with the true coordinate of the same particles.

    With n particles, never more than n - 1 neighbours are used.

    Raises:
        InputError: fewer than three particles, or a value that is not a number.
    """
    if len(latents) < 3:
        raise InputError(f"expected latents of at least 3 particles, found {len(latents)}")
    for name, values in (("latents", latents), ("true coordinates", truth)):
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            raise InputError(f"the {name} of particle {int(np.argmax(bad))} hold a value that is not a number")
    neighbours = min(neighbours, len(latents) - 1)
    asked = queried(len(latents))
    predicted = predict_from_neighbours(latents, truth, neighbours, asked)
    ranks = [_rank_correlation(component, truth) for component in principal_coordinates(latents).coordinates.T]
    return LatentScores(
        knn_r2=_r2(truth[asked], predicted),
        spearman_first_component=ranks[0],
        spearman_best_component=max(ranks),
        spearman_knn=_rank_correlation(predicted, truth[asked]),
        neighbours=neighbours,
    )


def queried(particles: int) -> Int[np.ndarray, " m"]:
    """The particles that are predicted: all, or evenly strided ones of very many."""
    return np.arange(0, particles, -(-particles // MOST_QUERIES))


def predict_from_neighbours(
    latents: Float[np.ndarray, "n k"],
    truth: Float[np.ndarray, " n"],
    neighbours: int,
    asked: np.ndarray | None = None,
) -> Float[np.ndarray, " m"]:
    """Mean truth of the nearest other particles, for the particles ``asked`` (indices; all by default)."""
    asked = np.arange(len(latents)) if asked is None else asked
    others = nearest_others(latents, neighbours, asked)
    return np.asarray(truth, dtype=np.float64)[others].mean(axis=1)


def nearest_others(
    latents: Float[np.ndarray, "n k"], neighbours: int, asked: Int[np.ndarray, " m"]
) -> Int[np.ndarray, "m b"]:
    """Indices of the nearest particles of each of the particles ``asked``, itself left out."""
    found = NearestNeighbors(n_neighbors=neighbours + 1).fit(latents).kneighbors(latents[asked], return_distance=False)
    # A particle is usually its own first neighbour, but among identical latents it can stand anywhere or nowhere.
    itself = found == asked[:, None]
    itself[~itself.any(axis=1), -1] = True
    return np.asarray(found[~itself].reshape(len(asked), neighbours))


def _r2(truth: Float[np.ndarray, " m"], predicted: Float[np.ndarray, " m"]) -> float:
    spread = float(((truth - truth.mean()) ** 2).sum())
    return 1.0 - float(((truth - predicted) ** 2).sum()) / spread if spread > 0 else 0.0


def _rank_correlation(a: Float[np.ndarray, " m"], b: Float[np.ndarray, " m"]) -> float:
    """Absolute Spearman correlation; a constant tells nothing and scores 0."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return abs(float(spearmanr(a, b).statistic))

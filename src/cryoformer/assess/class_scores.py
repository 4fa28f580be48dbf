"""How well latent coordinates tell particles of different composition apart.

For latents [n, k] and the true class of every particle [n]:

* *Accuracy of nearest neighbours*: a particle is given the class that most of its 25 nearest neighbours in latent space
  have, itself left out. Classes may be uneven, so three numbers: the share of particles that are right, the mean of
  that share over classes (a class of 2 percent counts as much as one of 60), and the share that is right when all are
  given the largest class, which is what latents that tell nothing reach.
* *Adjusted Rand index of k-means* (Hubert & Arabie, J. Classification 1985) with as many clusters as there are classes:
  1 when clusters are classes, 0 on average when they have nothing to do with them. It asks more: the classes must lie
  apart, in round clouds of their own. Where a motion spreads the latents further than the composition does, k-means
  cuts the motion in pieces, and the index is low although neighbours tell the classes.

Distances are Euclidean in the latents as they are given, as for R2 (:mod:`cryoformer.assess.heterogeneity`).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from cryoformer.assess.heterogeneity import NEIGHBOURS, nearest_others, queried
from cryoformer.errors import InputError

STARTS = 10


@dataclass(frozen=True)
class ClassScores:
    """Scores of latents against true classes (see the module's text)."""

    knn_accuracy: float
    knn_balanced_accuracy: float
    knn_accuracy_per_class: tuple[float, ...]
    """Of the classes that have particles, in their order."""
    largest_class: float
    kmeans_rand: float
    classes: int
    neighbours: int


def class_scores(
    latents: Float[np.ndarray, "n k"], classes: Int[np.ndarray, " n"], neighbours: int = NEIGHBOURS
) -> ClassScores:
    """Compare latents with the true classes of the same particles; never more than n - 1 neighbours are used.

    Raises:
        InputError: fewer than three particles.
    """
    if len(latents) < 3:
        raise InputError(f"expected latents of at least 3 particles, found {len(latents)}")
    names, members = np.unique(classes, return_inverse=True)
    neighbours = min(neighbours, len(latents) - 1)
    asked = queried(len(latents))
    votes = members[nearest_others(latents, neighbours, asked)]
    counts = np.stack([(votes == index).sum(axis=1) for index in range(len(names))], axis=1)
    right = counts.argmax(axis=1) == members[asked]
    per_class = [float(right[members[asked] == index].mean()) for index in np.unique(members[asked])]
    found = KMeans(n_clusters=len(names), n_init=STARTS, random_state=0).fit_predict(latents[asked])
    return ClassScores(
        knn_accuracy=float(right.mean()),
        knn_balanced_accuracy=float(np.mean(per_class)),
        knn_accuracy_per_class=tuple(per_class),
        largest_class=float(np.bincount(members).max() / len(members)),
        kmeans_rand=float(adjusted_rand_score(members[asked], found)),
        classes=len(names),
        neighbours=neighbours,
    )

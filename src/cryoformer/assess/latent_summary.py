"""What an evaluation says about latents: R2 of every coordinate of the truth, and how well compositions are told."""

from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float

from cryoformer.assess.class_scores import class_scores
from cryoformer.assess.ground_truth import GroundTruth
from cryoformer.assess.heterogeneity import NEIGHBOURS, latent_scores

NOTHING = {"knn_r2": None, "spearman_first_component": None, "spearman_best_component": None, "spearman_knn": None}


def latent_summary(latents: Float[np.ndarray, "n k"], truth: GroundTruth) -> dict[str, Any]:
    """Scores of latents as JSON-able values (see docs/metrics.md).

    With several coordinates, the scores at the top are those of the coordinate that is predicted worst: all of them
    have to be found. A coordinate is looked for among the particles that show it. Where particles differ in composition
    alone, those scores are None.
    """
    if truth.composition is not None and not truth.moves:
        summary: dict[str, Any] = NOTHING | {"neighbours": min(NEIGHBOURS, len(latents) - 1)}
    else:
        shown = [truth.showing(number) for number in range(truth.coordinates.shape[1])]
        each = [
            asdict(latent_scores(latents[rows], truth.coordinates[rows, number])) for number, rows in enumerate(shown)
        ]
        summary = dict(min(each, key=lambda scores: scores["knn_r2"]))
        if len(each) > 1:
            summary["knn_r2_mean"] = float(np.mean([scores["knn_r2"] for scores in each]))
            summary["coordinates"] = each
    if truth.composition is not None:
        summary["classes"] = asdict(class_scores(latents, truth.composition))
    return summary

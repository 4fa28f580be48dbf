"""The paper's FSC: solvent-masked, between reconstruction and truth, averaged over three samples of each state.

As in Kimanius et al. (NeurIPS 2022), whom the paper follows; with ten states these are 30 samples.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cryoformer.assess.evaluate import THRESHOLD
from cryoformer.assess.fsc import resolution
from cryoformer.assess.scores import score_volumes
from cryoformer.assess.sources import VolumeSource
from cryoformer.assess.truth import Truth

PER_STATE = 3


def sample_particles(state_of_image: Int[np.ndarray, " n"], per_state: int = PER_STATE) -> Int[np.ndarray, " m"]:
    """Particles of every state that occurs, evenly strided through those of the state; fewer where it has fewer."""
    chosen = []
    for state in np.unique(state_of_image):
        members = np.flatnonzero(state_of_image == state)
        count = min(per_state, len(members))
        chosen.append(members[np.arange(count) * (len(members) // count)])
    return np.concatenate(chosen).astype(np.int64)


def sampled_fsc(
    source: VolumeSource, truth: Truth, masks: dict[str, Float[np.ndarray, "d d d"]], per_state: int = PER_STATE
) -> dict[str, Any]:
    """Mean FSC over the samples under each mask, where it falls below 0.5, and the mean area under it."""
    rows = sample_particles(truth.state_of_image, per_state)
    true_volumes = (truth.state(int(state)) for state in truth.state_of_image[rows])
    scores = score_volumes(source.particle_volumes(rows), true_volumes, masks)
    found: dict[str, Any] = {"samples": len(rows)}
    for name, score in scores.items():
        curve = score.fsc.mean(axis=0)
        found[name] = {
            "fsc": curve.tolist(),
            "resolution_angstrom": resolution(curve, truth.box, truth.pixel_size_angstrom, THRESHOLD),
            "auc": float(score.auc.mean()),
        }
    return found

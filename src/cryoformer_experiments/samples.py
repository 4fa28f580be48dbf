"""The paper's FSC: solvent-masked, between reconstruction and truth, averaged over three samples of each state.

As in Kimanius et al. (NeurIPS 2022), whom the paper follows; with ten states these are 30 samples.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cryoformer.assess.evaluate import THRESHOLD
from cryoformer.assess.ground_truth import GroundTruth
from cryoformer.assess.scores import score_volumes
from cryoformer.decode.volume_source import VolumeSource
from cryoformer.imaging.fsc import resolution

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
    source: VolumeSource, truth: GroundTruth, masks: dict[str, Float[np.ndarray, "d d d"]], per_state: int = PER_STATE
) -> dict[str, Any]:
    """Mean FSC over the samples under each mask, where it falls below 0.5, and the mean area under it.

    Also the seconds that a volume takes, where the source makes one for every latent.
    """
    rows = sample_particles(truth.state_of_image, per_state)
    true_volumes = (truth.state(int(state)) for state in truth.state_of_image[rows])
    volumes = _Timed(source.particle_volumes(rows))
    scores = score_volumes(volumes, true_volumes, masks)
    found: dict[str, Any] = {"samples": len(rows)}
    if not source.is_homogeneous:
        found["seconds_per_volume"] = volumes.seconds / len(rows)
    for name, score in scores.items():
        curve = score.fsc.mean(axis=0)
        found[name] = {
            "fsc": curve.tolist(),
            "resolution_angstrom": resolution(curve, truth.box, truth.pixel_size_angstrom, THRESHOLD),
            "auc": float(score.auc.mean()),
        }
    return found


class _Timed:
    """An iterator, and the seconds that were spent waiting for it."""

    def __init__(self, inner: Iterator[Float[np.ndarray, "d d d"]]) -> None:
        self.inner, self.seconds = inner, 0.0

    def __iter__(self) -> Iterator[Float[np.ndarray, "d d d"]]:
        return self

    def __next__(self) -> Float[np.ndarray, "d d d"]:
        started = time.monotonic()
        try:
            return next(self.inner)
        finally:
            self.seconds += time.monotonic() - started

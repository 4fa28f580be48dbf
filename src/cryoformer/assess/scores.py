"""Scores of volumes against their true counterparts, mask by mask."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

from cryoformer.errors import InputError
from cryoformer.imaging.fsc import compare_transforms, half_transform


@dataclass(frozen=True)
class VolumeScores:
    """Scores of n volumes under one mask."""

    auc: Float64[np.ndarray, " n"]
    """CryoBench's area under the FSC curve (:func:`cryoformer.imaging.fsc.fsc_auc`)."""
    fsc: Float64[np.ndarray, "n s"]
    """FSC over rounded shells."""

    def at(self, rows: np.ndarray) -> "VolumeScores":
        """The scores of these rows (repeats allowed)."""
        return VolumeScores(self.auc[rows], self.fsc[rows])


def score_volumes(
    volumes: Iterable[Float[np.ndarray, "_ _ _"]],
    truths: Iterable[Float[np.ndarray, "_ _ _"]],
    masks: Mapping[str, Float[np.ndarray, "d d d"]],
) -> dict[str, VolumeScores]:
    """Compare each volume [z, y, x] with the truth at the same place, both multiplied by each mask.

    Both are read one at a time; they need no common scale. The truth's transform is reused while the same array comes
    again.

    Raises:
        InputError: the numbers or shapes do not agree, nothing came, or a volume holds a value that is not a number.
    """
    areas: dict[str, list[np.ndarray]] = {name: [] for name in masks}
    curves: dict[str, list[np.ndarray]] = {name: [] for name in masks}
    last_truth: np.ndarray | None = None
    truth_transforms: dict[str, Tensor] = {}
    for position, (volume, truth) in enumerate(_pairs(volumes, truths)):
        if volume.shape != truth.shape:
            raise InputError(f"volume {position} has shape {volume.shape}, its truth {truth.shape}; expected the same")
        if not np.isfinite(volume).all():
            raise InputError(
                f"volume {position} holds values that are not numbers; the reconstruction has failed there"
            )
        if truth is not last_truth:
            last_truth = truth
            truth_transforms = {name: half_transform(truth * mask) for name, mask in masks.items()}
        for name, mask in masks.items():
            curve, area = compare_transforms(half_transform(volume * mask), truth_transforms[name])
            curves[name].append(curve)
            areas[name].append(area)
    if last_truth is None:
        raise InputError("there are no volumes to score")
    return {name: VolumeScores(np.stack(areas[name]), np.stack(curves[name])) for name in masks}


def _pairs(volumes: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    try:
        yield from zip(volumes, truths, strict=True)
    except ValueError as error:
        if "zip()" not in str(error):
            raise
        raise InputError("there are not as many volumes as true ones; expected one truth per volume") from error

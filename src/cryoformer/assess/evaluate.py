"""Evaluate a finished run against ground truth: FSC over the molecule and over what moves; latents against the motion.

The same scores are computed for the reconstruction, for what it has to beat (the run's consensus map and its linear
subspace), and for two references that frame them: the noise-free mean of the true states, which is the best that a
method blind to the motion could do, and the mask alone, which is what the shape of the mask contributes by itself.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cryoformer import __version__
from cryoformer.assess import masks as mask_settings
from cryoformer.assess.ground_truth import GroundTruth, load_truth
from cryoformer.assess.heterogeneity import NEIGHBOURS
from cryoformer.assess.latent_summary import latent_summary
from cryoformer.assess.masks import molecule_mask, moving_mask, state_spread
from cryoformer.assess.results import open_result
from cryoformer.assess.scores import VolumeScores, score_volumes
from cryoformer.decode.volume_source import VolumeSource, class_means, nearest_latents
from cryoformer.errors import InputError
from cryoformer.files import write_json
from cryoformer.imaging.fsc import perfect_auc, resolution
from cryoformer.run.run_folder import Run

EVALUATION_FILE = "evaluation.json"
THRESHOLD = 0.5
"""FSC threshold against ground truth, which has no noise of its own."""


def evaluate(run_path: Path | str, truth_dir: Path | str, images: int = 100) -> dict[str, Any]:
    """Evaluate the run and write ``evaluation.json`` into it.

    Args:
        run_path: a run directory, or the folder of a baseline.
        truth_dir: the folder of the simulated stack (``truth.npz``, ``gt/``).
        images: how many particles, evenly strided through the stack, the per-image scores are averaged over.

    Returns:
        What was written (docs/metrics.md explains every entry).

    Raises:
        InputError: run or truth are missing, or do not belong together.
    """
    opened = open_result(Path(run_path))
    truth = load_truth(truth_dir, opened.box, opened.pixel_size_angstrom, opened.particles)
    result = evaluate_sources(opened.sources, truth, images)
    write_json(Path(run_path) / EVALUATION_FILE, result)
    return result


def evaluate_run(
    run: Run, truth_dir: Path | str, images: int = 100, extra_sources: Iterable[VolumeSource] = ()
) -> dict[str, Any]:
    """As :func:`evaluate`, for an open run, without writing; other methods can be scored beside it."""
    truth = load_truth(truth_dir, run.box, run.pixel_size_angstrom, len(run.latents))
    return evaluate_sources([*run.sources, *extra_sources], truth, images)


def evaluate_sources(sources: Iterable[VolumeSource], truth: GroundTruth, images: int = 100) -> dict[str, Any]:
    """Score any volume sources against the truth of a stack (JSON-able result, see docs/metrics.md)."""
    indices = strided(len(truth.t), images)
    masks = truth_masks(truth)
    results = {source.name: _evaluate_source(source, truth, masks, indices) for source in sources}
    spread = state_spread(truth.states(), truth.occupancies)
    mean = spread.mean.astype(np.float32)
    for name, volume in (("noise_free_mean", mean), ("mask_alone", np.ones_like(mean))):
        source = VolumeSource.homogeneous(name, volume, len(truth.t))
        results[name] = _evaluate_source(source, truth, masks, indices)
    return {
        "format": 1,
        "version": __version__,
        "settings": _settings(truth, masks, indices),
        "sources": results,
        "cryoformer_over_consensus": _ratios(results, "cryoformer", "consensus"),
    }


def strided(particles: int, images: int) -> np.ndarray:
    """Indices of at most ``images`` particles, evenly strided through the stack, as CryoBench picks them."""
    if images < 1:
        raise InputError(f"cannot evaluate {images} images; expected 1 or more")
    count = min(images, particles)
    return np.arange(count, dtype=np.int64) * (particles // count)


def truth_masks(truth: GroundTruth) -> dict[str, np.ndarray]:
    """Masks: "molecule" over the true states, "given" by the truth if it has one, "moving" unless no state differs."""
    masks: dict[str, np.ndarray] = {"molecule": molecule_mask(truth.states(), truth.pixel_size_angstrom)}
    given = truth.given_mask()
    if given is not None:
        masks["given"] = given
    moving = moving_mask(truth.states(), truth.pixel_size_angstrom)
    if moving is not None:
        masks["moving"] = moving
    return masks


def _evaluate_source(
    source: VolumeSource, truth: GroundTruth, masks: dict[str, np.ndarray], indices: np.ndarray
) -> dict[str, Any]:
    """Per image, per state and latent scores of one source."""
    states = truth.state_of_image
    present = sorted(int(index) for index in np.unique(states))
    true_states = (truth.state(index) for index in present)
    if len(source.latents) != len(states):
        raise InputError(
            f"{source.name} has latents of {len(source.latents)} particles, the truth {len(states)}; "
            "give the truth of the same stack"
        )
    if source.is_homogeneous:
        # One volume for all: comparing it once with each state says all there is to say about its images.
        per_state = score_volumes(source.latent_volumes(source.latents[: len(present)]), true_states, masks)
        rows = np.searchsorted(present, states[indices])
        per_image = {name: scores.at(rows) for name, scores in per_state.items()}
        latents = None
    else:
        latents = latent_summary(source.latents, truth)
        centres = nearest_latents(source.latents, class_means(source.latents, states, present))
        per_state = score_volumes(source.latent_volumes(source.latents[centres]), true_states, masks)
        per_image = score_volumes(source.particle_volumes(indices), _true_volumes(truth, states[indices]), masks)
    return {
        "per_image": {name: _image_summary(scores, truth) for name, scores in per_image.items()},
        "per_state": {name: _state_summary(scores, truth, present) for name, scores in per_state.items()},
        "latents": latents,
    }


def _true_volumes(truth: GroundTruth, states: np.ndarray) -> Iterator[np.ndarray]:
    return (truth.state(int(index)) for index in states)


def _image_summary(scores: VolumeScores, truth: GroundTruth) -> dict[str, Any]:
    curve = scores.fsc.mean(axis=0)
    return {
        "auc_mean": float(scores.auc.mean()),
        "auc_std": float(scores.auc.std()),
        "auc_median": float(np.median(scores.auc)),
        "auc": _rounded(scores.auc),
        "fsc_mean_curve": _rounded(curve),
        "resolution_angstrom": resolution(curve, truth.box, truth.pixel_size_angstrom, THRESHOLD),
    }


def _state_summary(scores: VolumeScores, truth: GroundTruth, present: list[int]) -> dict[str, Any]:
    resolutions = [resolution(curve, truth.box, truth.pixel_size_angstrom, THRESHOLD) for curve in scores.fsc]
    return {
        "states": present,
        "auc_mean": float(scores.auc.mean()),
        "auc": _rounded(scores.auc),
        "fsc_mean_curve": _rounded(scores.fsc.mean(axis=0)),
        "resolution_angstrom_mean": float(np.mean(resolutions)),
        "resolution_angstrom": _rounded(np.array(resolutions)),
    }


def _settings(truth: GroundTruth, masks: dict[str, np.ndarray], indices: np.ndarray) -> dict[str, Any]:
    moving = mask_settings.MOVING_FRACTION, mask_settings.MOVING_GROW_ANGSTROM
    molecule = mask_settings.MOLECULE_FRACTION, mask_settings.MOLECULE_GROW_ANGSTROM
    numbers = {
        name: {"fraction": fraction, "grow_angstrom": grow, "edge_angstrom": mask_settings.EDGE_ANGSTROM}
        for name, (fraction, grow) in (("molecule", molecule), ("moving", moving))
    }
    return {
        "truth": truth.directory.name,
        "box": truth.box,
        "pixel_size_angstrom": truth.pixel_size_angstrom,
        "nyquist_angstrom": 2.0 * truth.pixel_size_angstrom,
        "particles": len(truth.t),
        "images": len(indices),
        "image_stride": int(indices[1] - indices[0]) if len(indices) > 1 else 1,
        "states": len(truth),
        "coordinates": truth.coordinates.shape[1],
        "compositions": 1 if truth.composition is None else len(np.unique(truth.composition)),
        "auc_of_a_perfect_map": perfect_auc(truth.box),
        "fsc_threshold": THRESHOLD,
        "neighbours": NEIGHBOURS,
        "masks": {
            name: {
                **numbers.get(name, {}),
                "voxels": float(mask.sum()),
                "fraction_of_box": float(mask.mean()),
            }
            for name, mask in masks.items()
        },
    }


def _ratios(results: dict[str, Any], ours: str, base: str) -> dict[str, dict[str, float]]:
    """Mean AUC of one source over that of another, where both were scored and the other is not zero."""
    if ours not in results or base not in results:
        return {}
    return {
        kind: {
            mask: results[ours][kind][mask]["auc_mean"] / results[base][kind][mask]["auc_mean"]
            for mask in results[ours][kind]
            if results[base][kind][mask]["auc_mean"] > 0
        }
        for kind in ("per_image", "per_state")
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]

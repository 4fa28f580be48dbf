"""Scores of one fit against the truth of its stack: those of ``compare``, and the paper's mean FSC over samples.

The scores of a fit are kept beside it, because decoding takes minutes for some methods.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cryoformer.assess.evaluate import evaluate_sources, truth_masks
from cryoformer.assess.ground_truth import GroundTruth, load_truth
from cryoformer.assess.results import open_result
from cryoformer.decode.volume_source import VolumeSource
from cryoformer_experiments.fits import Fit
from cryoformer_experiments.samples import sampled_fsc
from cryoformer_experiments.workplace import kept_scores

DIGITS = 4


def score_fit(fit: Fit, images: int) -> dict[str, Any]:
    """Scores of a finished fit and of the two references that every evaluation has, and the settings of the scoring.

    Raises:
        InputError: fit and truth do not belong together.
    """
    return kept_scores(fit.folder, fit.record_file, {"images": images}, lambda: _score(fit, images))


def _score(fit: Fit, images: int) -> dict[str, Any]:
    result = open_result(fit.folder, fit.method.name)
    truth = load_truth(fit.stack.truth, result.box, result.pixel_size_angstrom, result.particles)
    source, masks = result.sources[0], truth_masks(truth)
    evaluated = evaluate_sources([source], truth, images)
    sources = evaluated["sources"]
    for scored in [source, *_references(truth)]:
        sources[scored.name]["samples"] = sampled_fsc(scored, truth, masks)
    return {
        "settings": evaluated["settings"],
        "sources": rounded({name: _without_image_list(scores) for name, scores in sources.items()}),
        "fit_seconds": result.fit_seconds,
        **training_facts(fit.folder),
    }


def training_facts(folder: Path) -> dict[str, Any]:
    """What a fit says about its training: images per second at its last resolution, and what a baseline found."""
    lines = _lines(folder / "metrics.jsonl")
    paces = [float(line["images_per_second"]) for line in lines if "images_per_second" in line]
    method = folder / "method.json"
    found = json.loads(method.read_text())["found"] if method.is_file() else {}
    return {
        "images_per_second": paces[-1] if paces else None,
        "found": {name: value for name, value in found.items() if not isinstance(value, list)},
    }


def rounded(values: Any) -> Any:
    """The same values with four digits behind the point, however deep."""
    if isinstance(values, dict):
        return {name: rounded(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [rounded(value) for value in values]
    return round(values, DIGITS) if isinstance(values, float) else values


def _references(truth: GroundTruth) -> list[VolumeSource]:
    shares = np.bincount(truth.state_of_image, minlength=len(truth)) / len(truth.state_of_image)
    mean = np.sum([share * volume for share, volume in zip(shares, truth.states(), strict=True)], axis=0)
    volumes = {"noise_free_mean": mean, "mask_alone": np.ones_like(mean)}
    return [VolumeSource.homogeneous(name, volume, len(truth.t)) for name, volume in volumes.items()]


def _without_image_list(scores: dict[str, Any]) -> dict[str, Any]:
    """Areas of single images say nothing that their mean and deviation do not."""
    per_image = {
        mask: {name: value for name, value in values.items() if name != "auc"}
        for mask, values in scores["per_image"].items()
    }
    return scores | {"per_image": per_image}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()] if path.exists() else []

"""Two halves of particles that do not move, each fitted by itself from the first step on: what do the two maps share?

A method's map of a half is the density at the mean of its latents (of a method without latents, its one density). The
FSC of the two maps is corrected for the mask by random phases (:func:`cryoformer.imaging.fsc.masked_fsc`), and the mean
of the two maps is compared with the truth. If noise were all that limits both, an FSC of 0.143 between the halves
would be 0.5 to the truth (Rosenthal & Henderson 2003): FSC_truth = sqrt(2 FSC / (1 + FSC)). A half-map FSC
that promises more than the truth confirms comes from what the halves share beside the molecule, such as a mask of the
method's own or a prior.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from cryoformer.assess.evaluate import truth_masks
from cryoformer.assess.ground_truth import load_truth
from cryoformer.assess.results import Result, open_result
from cryoformer.errors import InputError
from cryoformer.imaging.fsc import fourier_shell_correlation, fsc_auc, masked_fsc, resolution
from cryoformer.validate.independent_runs import flattened
from cryoformer_experiments.comparison import rounded, training_facts
from cryoformer_experiments.fits import Fit
from cryoformer_experiments.workplace import kept_scores

HALF_THRESHOLD, TRUTH_THRESHOLD = 0.143, 0.5


def score_halves(fits: tuple[Fit, Fit], particles: int, seed: int) -> dict[str, Any]:
    """Half-map FSC and FSC to the truth of one method; kept beside its first half's fit.

    Args:
        fits: of the two halves.
        particles: of the whole stack.
        seed: of the random phases.

    Raises:
        InputError: the halves are not of one box, or more than one state is in the truth.
    """
    newest = max(fits, key=lambda fit: fit.record_file.stat().st_mtime_ns)
    return kept_scores(fits[0].folder, newest.record_file, {"seed": seed}, lambda: _score(fits, particles, seed))


def _score(fits: tuple[Fit, Fit], particles: int, seed: int) -> dict[str, Any]:
    first, second = (open_result(fit.folder, fit.method.name) for fit in fits)
    if first.box != second.box:
        raise InputError(f"{first.path} has a box of {first.box}, {second.path} of {second.box}; expected the same")
    box, pixel = first.box, first.pixel_size_angstrom
    truth = load_truth(fits[0].stack.truth, box, pixel, particles)
    masks = truth_masks(truth)
    if "moving" in masks:
        raise InputError(f"{truth.directory}: its states differ; this experiment is of particles that do not move")
    maps = mean_volume(first), mean_volume(second)
    curves = half_map_curves(maps, truth.state(0), masks["molecule"], seed)
    return {
        "settings": {"box": box, "pixel_size_angstrom": pixel, "particles": [first.particles, second.particles]},
        "curves": rounded({name: curve.tolist() for name, curve in curves.items()}),
        "scores": rounded(
            {
                "half_map_resolution_angstrom": resolution(curves["half_maps"], box, pixel, HALF_THRESHOLD),
                "truth_resolution_angstrom": resolution(curves["truth"], box, pixel, TRUTH_THRESHOLD),
                "promised_too_much": float((curves["expected"] - curves["truth"])[1:].mean()),
                "truth_auc": float(
                    fsc_auc((maps[0] + maps[1]) * masks["molecule"], truth.state(0) * masks["molecule"])
                ),
            }
        ),
        "fit_seconds": [first.fit_seconds, second.fit_seconds],
        **training_facts(first.path),
    }


def half_map_curves(
    maps: tuple[Float[np.ndarray, "d d d"], Float[np.ndarray, "d d d"]],
    truth: Float[np.ndarray, "d d d"],
    mask: Float[np.ndarray, "d d d"],
    seed: int,
) -> dict[str, Float[np.ndarray, " s"]]:
    """FSC over rounded shells: of the halves without a mask and corrected, of their mean to the truth, and expected.

    ``expected`` is the FSC to the truth that the corrected FSC of the halves promises.
    """
    corrected = masked_fsc(*flattened(*maps), mask, seed)
    positive = corrected.clip(0.0, 1.0)
    return {
        "half_maps_unmasked": fourier_shell_correlation(*maps),
        "half_maps": corrected,
        "truth": fourier_shell_correlation((maps[0] + maps[1]) * mask, truth * mask),
        "expected": np.sqrt(2.0 * positive / (1.0 + positive)),
    }


def mean_volume(result: Result) -> Float[np.ndarray, "d d d"]:
    """Density [z, y, x] at the mean of the latents, or the only one there is."""
    source = result.sources[0]
    return next(source.latent_volumes(source.latents.mean(axis=0, keepdims=True)))

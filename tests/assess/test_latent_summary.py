"""What an evaluation says about latents, from truths of one motion to two motions in two compositions."""

from pathlib import Path

import numpy as np
import pytest

from assess.toy_mixture import write_mixture
from assess.toy_run import BOX, PARTICLES, PIXEL_SIZE, ToyRun, write_truth
from cryoformer.assess.ground_truth import GroundTruth, load_truth
from cryoformer.assess.heterogeneity import latent_scores
from cryoformer.assess.latent_summary import latent_summary


def mixture(folder: Path, motions: bool = True, compositions: bool = True) -> GroundTruth:
    write_mixture(folder, motions, compositions)
    return load_truth(folder, BOX, PIXEL_SIZE, PARTICLES)


def test_one_motion_is_said_as_before(tmp_path: Path) -> None:
    truth = load_truth(write_truth(tmp_path), BOX, PIXEL_SIZE, PARTICLES)
    latents = ToyRun(tmp_path).latents
    assert latent_summary(latents, truth) == latent_scores(latents, truth.t).__dict__


def test_a_coordinate_that_was_not_found_decides(tmp_path: Path) -> None:
    truth = mixture(tmp_path, compositions=False)
    noise = np.random.default_rng(1).standard_normal((PARTICLES, 2))
    both = latent_summary(truth.coordinates + 0.01 * noise, truth)
    first = latent_summary(np.stack([truth.t, 0.1 * noise[:, 1]], axis=1), truth)
    assert len(both["coordinates"]) == 2
    assert both["knn_r2"] == min(each["knn_r2"] for each in both["coordinates"])
    assert first["coordinates"][0]["knn_r2"] > 0.9
    assert first["knn_r2"] == first["coordinates"][1]["knn_r2"] < 0.1
    assert first["knn_r2_mean"] == pytest.approx(np.mean([each["knn_r2"] for each in first["coordinates"]]))
    assert "classes" not in both


def test_composition_alone_has_no_r2(tmp_path: Path) -> None:
    truth = mixture(tmp_path, motions=False)
    assert truth.composition is not None
    latents = truth.composition[:, None] + 0.01 * np.random.default_rng(1).standard_normal((PARTICLES, 1))
    summary = latent_summary(latents, truth)
    assert summary["knn_r2"] is None
    assert summary["classes"]["knn_accuracy"] == summary["classes"]["kmeans_rand"] == 1.0


def test_both_kinds_are_said_side_by_side(tmp_path: Path) -> None:
    truth = mixture(tmp_path)
    assert truth.composition is not None
    summary = latent_summary(np.column_stack([truth.coordinates, 5.0 * truth.composition]), truth)
    assert len(summary["coordinates"]) == 2
    assert summary["classes"]["classes"] == 2
    assert summary["classes"]["knn_accuracy"] == 1.0


def test_a_coordinate_is_looked_for_where_it_is_shown(tmp_path: Path) -> None:
    entries = write_mixture(tmp_path)
    lost = entries["composition"] == 1
    # What is not there cannot be read from an image.
    latents = np.column_stack([entries["coordinates"][:, 0], np.where(lost, 0.0, entries["coordinates"][:, 1])])
    latents = np.column_stack([latents, 5.0 * lost])
    blamed = latent_summary(latents, load_truth(tmp_path, BOX, PIXEL_SIZE, PARTICLES))
    np.savez(tmp_path / "truth.npz", **entries, composition_moves=np.array([[True, True], [True, False]]))
    truth = load_truth(tmp_path, BOX, PIXEL_SIZE, PARTICLES)
    np.testing.assert_array_equal(truth.showing(1), np.flatnonzero(~lost))
    fair = latent_summary(latents, truth)
    assert fair["coordinates"][0] == blamed["coordinates"][0]
    assert fair["coordinates"][1]["knn_r2"] > blamed["coordinates"][1]["knn_r2"] + 0.2

"""The flexibility map finds what moves, in the toy run whose truth is known."""

from pathlib import Path

import numpy as np
import pytest

from assess.toy_run import BOX, PARTICLES, PIXEL_SIZE, toy_states, write_truth
from cryoformer.assess.ground_truth import load_truth
from cryoformer.assess.masks import StateSpread
from cryoformer.explore.flexibility import (
    flexibility,
    moving_regions,
    sampled_states,
    score_against_truth,
    state_uncertainty,
)
from explore.toy import NOISE, ExploredToy


def test_the_moving_blob_is_found_and_scores_near_one(tmp_path: Path) -> None:
    run = ExploredToy(tmp_path)
    truth = load_truth(write_truth(tmp_path / "truth"), BOX, PIXEL_SIZE, PARTICLES)
    found = flexibility(run, sampled_states(run.latents))
    noise = np.random.default_rng(0).standard_normal(found.deviation.shape)
    scores = score_against_truth({"flexibility": found.deviation, "noise": noise}, truth)
    assert scores is not None
    assert scores["flexibility"]["molecule"] > 0.99
    assert scores["noise"]["molecule"] == pytest.approx(0.5, abs=0.06)


def test_a_run_that_ignores_its_latents_has_no_moving_region(tmp_path: Path) -> None:
    run = ExploredToy(tmp_path, blend=0.0)
    assert moving_regions(flexibility(run, sampled_states(run.latents))) == []


def test_separate_regions_are_told_apart_the_more_flexible_first() -> None:
    deviation = np.zeros((24, 24, 24))
    deviation[2:6, 2:6, 2:6], deviation[12:20, 12:20, 12:20], deviation[22, 22, 22] = 1.0, 0.9, 0.5
    regions = moving_regions(StateSpread(np.ones_like(deviation), deviation, 1.0))
    assert len(regions) == 2
    assert regions[0].voxels[15, 15, 15]
    assert regions[1].voxels[3, 3, 3]
    assert sum(region.share for region in regions) == pytest.approx(1.0, abs=0.01)


def test_uncertainty_is_noise_where_nothing_moves_and_more_where_latents_are_unsure(tmp_path: Path) -> None:
    run = ExploredToy(tmp_path)
    run.latents_covariance = 100.0 * run.latents_covariance
    found = state_uncertainty(run, 2)
    moving = np.std(toy_states(), axis=0) > 0.1
    assert found[moving].mean() > 5.0 * found[:6].mean()
    # Filtered noise is below that of the raw mean of the halves.
    assert 0.0 < found[:6].mean() < NOISE

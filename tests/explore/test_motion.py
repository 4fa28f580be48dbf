"""The toy molecule's swing, measured through the whole of the analysis, and told in words."""

from pathlib import Path

import numpy as np
import pytest

from assess.toy_run import PIXEL_SIZE
from cryoformer.assess.latent_space import principal_coordinates
from cryoformer.explore.motion import in_words, measure_motion, motion_box
from cryoformer.explore.trajectory import component_trajectory
from explore.toy import ExploredToy


def measured(run: ExploredToy):
    principal = principal_coordinates(run.latents)
    trajectory = component_trajectory(run.latents)
    return measure_motion(run, trajectory, principal.coordinates[:, 0]), trajectory


def test_the_toy_swings_by_eight_voxels(tmp_path: Path) -> None:
    motions, trajectory = measured(ExploredToy(tmp_path))
    assert len(motions) == 1
    assert motions[0].whole.is_rigid
    # A round blob that moves from x = -4 to 4 voxels; end states are those of 5 and 95 %.
    assert motions[0].whole.distance_angstrom == pytest.approx(8 * PIXEL_SIZE, rel=0.1)
    np.testing.assert_allclose(np.abs(motions[0].whole.displacement_angstrom)[1:], 0.0, atol=0.3 * PIXEL_SIZE)
    assert 0.0 < motions[0].distance_deviation < PIXEL_SIZE
    (sentence,) = in_words(motions, trajectory)
    assert f"moves {motions[0].whole.distance_angstrom:.1f} ±" in sentence
    assert "quantile 5% to quantile 95% of component 1" in sentence


def test_nothing_is_made_up_where_nothing_moves(tmp_path: Path) -> None:
    motions, trajectory = measured(ExploredToy(tmp_path, blend=0.0))
    assert motions == []
    assert "No region was found to move" in in_words(motions, trajectory)[0]


def test_a_blob_that_fades_is_given_no_distance(tmp_path: Path) -> None:
    run = ExploredToy(tmp_path)
    still, whole = run.states.min(axis=0), run.states[2]
    run.states = np.stack([still + share * (whole - still) for share in np.linspace(0.0, 1.0, 5)])
    run.consensus = run.states.mean(axis=0)
    motions, trajectory = measured(run)
    assert not motions[0].whole.is_rigid
    assert "appears or disappears" in in_words(motions, trajectory)[0]


def test_fine_volumes_are_measured_on_a_coarser_grid() -> None:
    assert motion_box(256, 1.0) == 74
    assert motion_box(64, 3.5) == 64
    assert motion_box(64, 5.0) == 64

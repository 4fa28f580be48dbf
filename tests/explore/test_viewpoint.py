"""The camera looks across the motion; levels and colours mean what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from assess.toy_run import blob, toy_states
from cryoformer.assess.masks import state_spread
from cryoformer.explore.viewpoint import choose_camera, contour_level, matching_level, mobility


@settings(max_examples=8)
@given(seed=st.integers(0, 200))
def test_the_motion_lies_in_the_picture_whatever_its_direction(seed: int) -> None:
    turn = Rotation.random(random_state=seed).as_matrix()
    ends = [turn @ np.array([s * 4.0, 0.0, 5.0]) for s in (-1.0, 1.0)]
    states = [blob((0, 0, 0), 3.0) + blob((p[0], p[1], p[2]), 1.7) for p in ends]
    camera = choose_camera(states, state_spread(states).deviation, 0.4)
    direction = (ends[1] - ends[0]) / 8.0
    assert abs(camera.view[2] @ direction) < 0.05
    np.testing.assert_allclose(camera.view @ camera.view.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(camera.view) == pytest.approx(1.0)
    # The moving part is in the upper half.
    assert camera.view[1] @ (turn @ np.array([0.0, 0.0, 5.0])) > 0


def test_the_whole_molecule_is_in_the_picture() -> None:
    states = toy_states()
    camera = choose_camera(states, state_spread(states).deviation, 0.3)
    points = np.argwhere(np.max(states, axis=0) > 0.3)[:, ::-1] - camera.centre
    assert np.abs(points @ camera.view[:2].T).max() < camera.half_width
    assert np.abs(points @ camera.view[2]).max() < camera.half_depth


def test_states_that_do_not_move_still_get_a_camera() -> None:
    states = [toy_states()[0]] * 2
    spread = state_spread(states)
    camera = choose_camera(states, spread.deviation, 0.3)
    assert np.isfinite(camera.view).all()
    assert mobility(spread.deviation, 0.3).max() == 0.0


@given(voxels=st.integers(1, 4000), seed=st.integers(0, 100))
def test_the_matching_level_encloses_as_many_voxels(voxels: int, seed: int) -> None:
    volume = np.random.default_rng(seed).standard_normal((16, 16, 16))
    assert (volume > matching_level(volume, voxels)).sum() == voxels


def test_the_contour_lies_between_solvent_and_protein() -> None:
    volume = toy_states()[0]
    assert 0.2 * volume.max() < contour_level(volume) < 0.6 * volume.max()

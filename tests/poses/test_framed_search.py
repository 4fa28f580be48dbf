"""Poses that are searched come into the frame of those given, and it is said how well these fix it."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.particles import Particles
from cryoformer.poses.framed_search import LARGEST_FRAME_ERROR, Searched, frame_difference, in_frame
from cryoformer.poses.map_alignment import MIRROR

COUNT = 400


def off_by(rotations: np.ndarray, degrees: float, seed: int) -> np.ndarray:
    axes = np.random.default_rng(seed).normal(size=(len(rotations), 3))
    turns = Rotation.from_rotvec(np.radians(degrees) * axes / np.linalg.norm(axes, axis=1, keepdims=True))
    return turns.as_matrix() @ rotations


@pytest.mark.parametrize("mirrored", [False, True])
def test_frame_and_hand_are_those_of_the_poses_given(mirrored: bool) -> None:
    true = uniform_rotations(COUNT, 0)
    other = true @ Rotation.from_rotvec([0.4, -1.0, 0.7]).as_matrix()
    found = MIRROR @ other @ MIRROR if mirrored else other
    placed = in_frame(found, off_by(true, 60, 1))
    assert np.degrees(Rotation.from_matrix(placed[0] @ true[0].T).magnitude()) < 10
    assert frame_difference(found, off_by(true, 60, 1)) < LARGEST_FRAME_ERROR
    assert frame_difference(found, off_by(true, 5, 1)) < 1


def test_poses_that_say_nothing_of_the_frame_are_named() -> None:
    apart = [frame_difference(uniform_rotations(COUNT, seed), uniform_rotations(COUNT, seed + 50)) for seed in range(6)]
    assert np.median(apart) > LARGEST_FRAME_ERROR
    for degrees, beware in ((3.0, False), (40.0, True)):
        said = Searched(_nobody(), 0.9, 0.8, degrees).sentence
        assert ("BEWARE" in said) == beware


def _nobody() -> Particles:
    return object.__new__(Particles)

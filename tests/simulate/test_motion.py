"""Screw paths: the ends are exact, and nothing inside a domain is bent on the way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from cryoformer.simulate.motion import MotionPath, Screw
from cryoformer.simulate.superposition import RigidTransform

SEEDS = st.integers(0, 10**6)


def motion_of(seed: int, degrees: float | None = None) -> RigidTransform:
    generator = np.random.default_rng(seed)
    rotation = Rotation.random(rng=generator)
    if degrees is not None:
        rotation = Rotation.from_rotvec(np.radians(degrees) * rotation.apply([0.0, 0.0, 1.0]))
    return RigidTransform(rotation.as_matrix(), generator.normal(0.0, 20.0, 3))


def at(screw: Screw, fraction: float) -> RigidTransform:
    rotations, translations = screw.at(np.array([fraction]))
    return RigidTransform(rotations[0], translations[0])


@given(SEEDS, st.sampled_from([None, 0.0, 1e-3, 0.5, 30.0, 120.0, 179.0, 180.0]))
def test_screw_ends_in_the_motion_it_was_made_from(seed: int, degrees: float | None) -> None:
    motion = motion_of(seed, degrees)
    end = at(Screw.from_motion(motion), 1.0)
    np.testing.assert_allclose(end.rotation, motion.rotation, atol=1e-7)
    # At 0.001 degrees the axis is a thousand kilometres of protein away; still within a hundredth of an Angstrom.
    np.testing.assert_allclose(end.translation, motion.translation, atol=1e-2 if degrees == 1e-3 else 1e-6)


@given(SEEDS)
def test_screw_starts_at_rest_and_adds_up(seed: int) -> None:
    screw = Screw.from_motion(motion_of(seed))
    np.testing.assert_allclose(at(screw, 0.0).rotation, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(at(screw, 0.0).translation, 0.0, atol=1e-9)
    twice = at(screw, 0.3).after(at(screw, 0.5))
    np.testing.assert_allclose(twice.rotation, at(screw, 0.8).rotation, atol=1e-9)
    np.testing.assert_allclose(twice.translation, at(screw, 0.8).translation, atol=1e-7)


@given(SEEDS, st.floats(0.0, 1.0))
def test_points_of_the_axis_only_advance_along_it(seed: int, fraction: float) -> None:
    screw = Screw.from_motion(motion_of(seed))
    moved = at(screw, fraction).apply((screw.point + 7.0 * screw.axis)[None])[0]
    expected = screw.point + (7.0 + fraction * screw.advance_angstrom) * screw.axis
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_halfway_of_a_quarter_turn_is_an_eighth() -> None:
    # About z through (10, 0, 0), and 4 A up.
    turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    pivot = np.array([10.0, 0.0, 0.0])
    screw = Screw.from_motion(RigidTransform(turn, pivot - turn @ pivot + [0.0, 0.0, 4.0]))
    assert screw.angle_radians == pytest.approx(np.pi / 2)
    assert screw.advance_angstrom * screw.axis[2] == pytest.approx(4.0)
    moved = at(screw, 0.5).apply(np.array([[0.0, 0.0, 0.0]]))[0]
    np.testing.assert_allclose(moved, [10 - 10 * np.sqrt(0.5), -10 * np.sqrt(0.5), 2.0], atol=1e-9)


def two_group_path(seed: int) -> tuple[np.ndarray, MotionPath]:
    points = np.random.default_rng(seed).normal(0.0, 15.0, (30, 3))
    screws = tuple((None, Screw.from_motion(motion_of(seed + k))) for k in range(3))
    return points, MotionPath(np.repeat([0, 1], 15), screws)


@given(SEEDS, st.floats(0.0, 1.0))
def test_distances_inside_a_group_never_change(seed: int, t: float) -> None:
    points, path = two_group_path(seed)
    moved = path.positions(points, t)
    np.testing.assert_allclose(moved[:15], points[:15], atol=1e-12)
    np.testing.assert_allclose(pdist(moved[15:]), pdist(points[15:]), atol=1e-8)


@given(SEEDS)
def test_path_passes_through_every_keyframe_in_turn(seed: int) -> None:
    points, path = two_group_path(seed)
    expected = points[15:]
    for segment in range(3):
        screw = path.screws[segment][1]
        assert screw is not None
        expected = at(screw, 1.0).apply(expected)
        np.testing.assert_allclose(path.positions(points, (segment + 1) / 3)[15:], expected, atol=1e-6)


@given(SEEDS)
def test_path_is_continuous_at_keyframes(seed: int) -> None:
    points, path = two_group_path(seed)
    step = path.positions(points, 1 / 3 + 1e-6) - path.positions(points, 1 / 3 - 1e-6)
    assert np.abs(step).max() < 1e-2


def test_path_without_segments_stands_still() -> None:
    points = np.random.default_rng(0).normal(size=(4, 3))
    path = MotionPath(np.zeros(4, dtype=np.int64), ())
    np.testing.assert_array_equal(path.positions(points, 0.7), points)
    assert path.groups == 1


def test_atoms_can_be_picked_from_a_path() -> None:
    points, path = two_group_path(3)
    picked = np.array([20, 3])
    np.testing.assert_allclose(path.of(picked).positions(points[picked], 0.4), path.positions(points, 0.4)[picked])

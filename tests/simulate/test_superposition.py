"""Superposition and the search for rigid bodies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryoformer.simulate.superposition import RigidTransform, contacts, largest_rigid_body, superpose

from .models import blob, turned


def random_motion(seed: int) -> RigidTransform:
    generator = np.random.default_rng(seed)
    return RigidTransform(Rotation.random(rng=generator).as_matrix(), generator.normal(0.0, 30.0, 3))


@given(st.integers(0, 10**6))
def test_superposition_recovers_any_rigid_motion(seed: int) -> None:
    points = np.random.default_rng(seed).normal(0.0, 10.0, (20, 3))
    motion = random_motion(seed + 1)
    found = superpose(points, motion.apply(points))
    np.testing.assert_allclose(found.rotation, motion.rotation, atol=1e-9)
    np.testing.assert_allclose(found.translation, motion.translation, atol=1e-7)


@given(st.integers(0, 10**6))
def test_motions_compose_and_invert(seed: int) -> None:
    points = np.random.default_rng(seed).normal(0.0, 10.0, (5, 3))
    first, second = random_motion(seed), random_motion(seed + 1)
    np.testing.assert_allclose(second.after(first).apply(points), second.apply(first.apply(points)), atol=1e-9)
    np.testing.assert_allclose(first.inverse().apply(first.apply(points)), points, atol=1e-9)


def test_mirror_image_is_superposed_by_a_rotation() -> None:
    points = blob(30, seed=0)
    found = superpose(points, points * np.array([1.0, 1.0, -1.0]))
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)


def test_weights_of_zero_leave_points_out() -> None:
    points = blob(30, seed=0)
    motion = random_motion(3)
    target = motion.apply(points)
    target[20:] += 50.0
    found = superpose(points, target, np.r_[np.ones(20), np.zeros(10)])
    np.testing.assert_allclose(found.rotation, motion.rotation, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_larger_of_two_bodies_is_found_exactly(seed: int) -> None:
    large, small = blob(80, seed), blob(50, seed + 1, centre=(40, 0, 0))
    motion = random_motion(seed)
    target = np.concatenate([motion.apply(large), motion.apply(turned(small, 40, (1, 2, 3), (0, 15, 0)))])
    found, inside = largest_rigid_body(
        np.concatenate([large, small]), target, np.zeros(130, dtype=np.int64), 2.0, connected=False
    )
    # A residue at the rotation axis of the small part may agree with both motions.
    assert inside[:80].all()
    assert inside[80:].sum() <= 5
    np.testing.assert_allclose(found.apply(large), target[:80], atol=0.5)


def test_a_body_is_grown_beyond_what_a_short_window_fixes() -> None:
    """A rod of 150 A in noise: twelve residues know its direction only to a few degrees, hence the refits."""
    rod = np.arange(150)[:, None] * np.array([[1.0, 0.0, 0.0]]) + blob(150, 0) * 0.2
    target = random_motion(4).apply(rod) + np.random.default_rng(5).normal(0.0, 0.4, rod.shape)
    _, inside = largest_rigid_body(rod, target, np.zeros(150, dtype=np.int64), 2.0, connected=False)
    assert inside.all()


def test_only_points_in_contact_count_as_one_body() -> None:
    near, far = blob(40, 0), blob(30, 1, centre=(200, 0, 0))
    both = np.concatenate([near, far])
    chains = np.repeat([0, 1], [40, 30])
    _, scattered = largest_rigid_body(both, both + 5.0, chains, 1.0, connected=False)
    _, together = largest_rigid_body(both, both + 5.0, chains, 1.0, connected=True)
    assert scattered.all()
    np.testing.assert_array_equal(together, chains == 0)


def test_contacts_are_pairs_within_ten_angstrom() -> None:
    points = np.array([[0.0, 0, 0], [9.0, 0, 0], [20.0, 0, 0]])
    np.testing.assert_array_equal(contacts(points), [[0, 1]])

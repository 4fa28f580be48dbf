"""Lines through the latent space stay with the particles, in order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assess.toy_run import BOX, PARTICLES, PIXEL_SIZE, ToyRun, write_truth
from cryoformer.assess.ground_truth import load_truth
from cryoformer.assess.latent_space import principal_coordinates
from cryoformer.errors import InputError
from cryoformer.explore.trajectory import component_trajectory, evenly, trajectories, truth_trajectory


def test_the_component_trajectory_follows_a_bent_cloud_from_end_to_end() -> None:
    rng = np.random.default_rng(0)
    angle = rng.uniform(-1.0, 1.0, 2000)
    latents = np.stack([np.sin(angle), np.cos(angle)], axis=1) + 0.02 * rng.standard_normal((2000, 2))
    path = component_trajectory(latents)
    np.testing.assert_allclose(np.linalg.norm(path.latents, axis=1), 1.0, atol=0.06)
    assert (np.diff(path.latents[:, 0]) > 0).all() or (np.diff(path.latents[:, 0]) < 0).all()
    assert np.abs(path.latents[[0, -1], 0]).min() > np.sin(0.8)


def test_across_a_horseshoe_the_path_stays_on_one_arm() -> None:
    rng = np.random.default_rng(1)
    angle = rng.uniform(0.0, np.pi, 4000)
    latents = np.stack([1.5 * np.cos(angle), np.sin(angle)], axis=1) + 0.02 * rng.standard_normal((4000, 2))
    path = component_trajectory(latents, axis=1).latents
    on_the_arch = np.linalg.norm(path / [1.5, 1.0], axis=1)
    np.testing.assert_allclose(on_the_arch, 1.0, atol=0.1)
    assert len(set(np.sign(path[np.abs(path[:, 0]) > 0.5, 0]))) == 1


@given(particles=st.integers(3, 30), dimensions=st.integers(1, 4), seed=st.integers(0, 50))
def test_small_sets_work_too(particles: int, dimensions: int, seed: int) -> None:
    latents = np.random.default_rng(seed).standard_normal((particles, dimensions))
    found = trajectories(latents, principal_coordinates(latents), points=latents[:2])
    assert found[0].name == "component_1"
    assert [path.name for path in found][-2:] == ["density_path", "points"]
    assert all(path.latents.shape == (len(path.labels), dimensions) for path in found)
    assert all((latents == point).all(axis=1).any() for point in found[0].latents)


def test_ends_of_the_density_path_are_particles_of_the_run() -> None:
    latents = np.random.default_rng(0).standard_normal((30, 2))
    path = trajectories(latents, principal_coordinates(latents), between=(3, 7))[-1]
    np.testing.assert_allclose(path.latents[[0, -1]], latents[[3, 7]])
    with pytest.raises(InputError, match="no particle 30"):
        trajectories(latents, principal_coordinates(latents), between=(3, 30))


def test_the_truth_trajectory_visits_the_states_in_the_order_of_the_motion(tmp_path: Path) -> None:
    truth = load_truth(write_truth(tmp_path), BOX, PIXEL_SIZE, PARTICLES)
    path = truth_trajectory(ToyRun(tmp_path).latents, truth)
    assert path.states is not None
    assert path.states.tolist() == [0, 1, 2, 3, 4]
    latents = ToyRun(tmp_path).latents
    particles = [int((latents == point).all(axis=1).argmax()) for point in path.latents]
    np.testing.assert_array_equal(truth.state_of_image[particles], path.states)
    assert path.labels[0] == "t = 0.10"


def test_evenly_holds_both_ends() -> None:
    assert evenly(10, 5).tolist() == [0, 2, 4, 7, 9]
    assert evenly(3, 5).tolist() == [0, 1, 2]

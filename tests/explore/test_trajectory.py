"""Points worth looking at are particles, in order."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from assess.toy_run import BOX, PARTICLES, PIXEL_SIZE, ToyRun, write_truth
from cryoformer.assess.truth import load_truth
from cryoformer.explore.trajectory import clusters, component_trajectory, evenly, truth_trajectory


def test_the_component_trajectory_follows_a_bent_cloud_from_end_to_end() -> None:
    rng = np.random.default_rng(0)
    angle = rng.uniform(-1.0, 1.0, 2000)
    latents = np.stack([np.sin(angle), np.cos(angle)], axis=1) + 0.02 * rng.standard_normal((2000, 2))
    visited = angle[component_trajectory(latents).particles]
    assert (np.diff(visited) > 0).all() or (np.diff(visited) < 0).all()
    assert np.abs(visited[[0, -1]]).min() > 0.8


@given(particles=st.integers(3, 30), dimensions=st.integers(1, 4), seed=st.integers(0, 50))
def test_small_sets_work_too(particles: int, dimensions: int, seed: int) -> None:
    latents = np.random.default_rng(seed).standard_normal((particles, dimensions))
    path = component_trajectory(latents)
    assert len(path.particles) == len(path.labels) == 9
    assert path.particles.min() >= 0
    assert path.particles.max() < particles
    found = clusters(latents)
    assert found.sizes.sum() == particles
    assert (np.diff(found.sizes) <= 0).all()


def test_latents_that_are_all_the_same_are_one_cluster() -> None:
    found = clusters(np.zeros((20, 3)))
    assert found.sizes.tolist() == [20]


def test_the_truth_trajectory_visits_the_states_in_the_order_of_the_motion(tmp_path: Path) -> None:
    truth = load_truth(write_truth(tmp_path), BOX, PIXEL_SIZE, PARTICLES)
    path = truth_trajectory(ToyRun(tmp_path).latents_mean, truth)
    assert path.states is not None
    assert path.states.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(truth.state_of_image[path.particles], path.states)
    assert path.labels[0] == "t = 0.10"


def test_evenly_holds_both_ends() -> None:
    assert evenly(10, 5).tolist() == [0, 2, 4, 7, 9]
    assert evenly(3, 5).tolist() == [0, 1, 2]

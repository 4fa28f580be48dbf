"""Paths through the crowd: around a hole, across a gap, evenly spaced, whatever the number of particles."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.explore.density_path import density_path


def test_the_path_goes_round_an_empty_middle() -> None:
    rng = np.random.default_rng(0)
    angle = rng.uniform(0.0, 1.2 * np.pi, 20_000)
    latents = np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.05 * rng.standard_normal((20_000, 2))
    start, end = int(np.abs(angle - 0.05).argmin()), int(np.abs(angle - 1.15 * np.pi).argmin())
    path = density_path(latents, start, end, 15)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 1.0, atol=0.12)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert steps.max() < 1.5 * steps.min()
    np.testing.assert_allclose(path[[0, -1]], latents[[start, end]])


def test_of_two_ways_the_crowded_one_is_taken() -> None:
    rng = np.random.default_rng(1)
    angle = rng.uniform(0.0, np.pi, 4000) * np.where(rng.uniform(size=4000) < 0.9, 1.0, -1.0)
    latents = np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.03 * rng.standard_normal((4000, 2))
    start, end = (int(np.abs(latents - place).sum(axis=1).argmin()) for place in ([1, 0], [-1, 0]))
    assert density_path(latents, start, end, 9)[4, 1] > 0.8


def test_islands_are_bridged() -> None:
    rng = np.random.default_rng(2)
    latents = np.concatenate([rng.standard_normal((100, 2)) * 0.1 + [6.0 * i, 0.0] for i in range(3)])
    path = density_path(latents, 0, 299, 9)
    assert np.abs(path[:, 1]).max() < 1.0
    assert (np.diff(path[:, 0]) > 0).all()


@given(particles=st.integers(2, 30), dimensions=st.integers(1, 4), seed=st.integers(0, 30))
def test_any_two_particles_are_joined(particles: int, dimensions: int, seed: int) -> None:
    latents = np.random.default_rng(seed).standard_normal((particles, dimensions))
    path = density_path(latents, 0, particles - 1, 5)
    assert path.shape == (5, dimensions)
    np.testing.assert_allclose(path[[0, -1]], latents[[0, -1]])

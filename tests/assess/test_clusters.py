"""Clusters: known groups are found, centres are particles, shares come with an honest uncertainty."""

import numpy as np
import pytest

from cryoformer.assess.clusters import FULL_KMEANS, cluster_shares, clusters, draw_latents


def groups(sizes: list[int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.standard_normal((n, 3)) * 0.1 + 5.0 * i for i, n in enumerate(sizes)])


@pytest.mark.parametrize("scale", [1, 60])
def test_groups_are_found_largest_first(scale: int) -> None:
    latents = groups([100 * scale, 300 * scale, 200 * scale])
    assert (len(latents) > FULL_KMEANS) == (scale > 1)
    found = clusters(latents, 3)
    assert found.sizes.tolist() == [300 * scale, 200 * scale, 100 * scale]
    assert np.bincount(found.labels).tolist() == found.sizes.tolist()
    np.testing.assert_allclose(latents[found.particles], [[5] * 3, [10] * 3, [0] * 3], atol=0.3)
    assert (found.labels[found.particles] == [0, 1, 2]).all()


def test_latents_that_are_all_the_same_are_one_cluster() -> None:
    assert clusters(np.zeros((20, 3))).sizes.tolist() == [20]


def test_shares_of_sure_particles_vary_as_counts_do() -> None:
    latents = groups([300, 100])
    found = clusters(latents, 2)
    shares = cluster_shares(found, latents, np.tile(1e-6 * np.eye(3), (400, 1, 1)))
    np.testing.assert_allclose(shares.share, [0.75, 0.25])
    np.testing.assert_allclose(shares.certainty, 1.0)
    # Binomial: sqrt(0.75 * 0.25 / 400); from 24 draws, sure to 15 %.
    np.testing.assert_allclose(shares.deviation, np.sqrt(0.75 * 0.25 / 400), rtol=0.5)


def test_unsure_latents_make_unsure_assignments() -> None:
    latents = groups([200, 200])
    found = clusters(latents, 2)
    assert cluster_shares(found, latents, np.tile(400.0 * np.eye(3), (400, 1, 1))).certainty.max() < 0.7


def test_draws_follow_the_covariance() -> None:
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
    mean = np.tile([3.0, -1.0], (40_000, 1))
    draws = draw_latents(mean, np.tile(covariance, (40_000, 1, 1)), np.random.default_rng(0))
    np.testing.assert_allclose(draws.mean(axis=0), [3.0, -1.0], atol=0.04)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.06)

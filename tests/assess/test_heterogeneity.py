"""Latent scores: what tells nothing scores nothing, what tells all scores all, and no point predicts itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from cryoformer.assess.heterogeneity import latent_scores, predict_from_neighbours
from cryoformer.assess.latent_space import principal_coordinates
from cryoformer.errors import InputError


def test_neighbours_are_those_of_a_slow_search_without_the_point_itself() -> None:
    rng = np.random.default_rng(0)
    latents, truth = rng.standard_normal((40, 3)), rng.uniform(size=40)
    expected = []
    for i in range(40):
        distance = np.linalg.norm(latents - latents[i], axis=1)
        distance[i] = np.inf
        expected.append(truth[np.argsort(distance)[:5]].mean())
    np.testing.assert_allclose(predict_from_neighbours(latents, truth, 5), expected)


def test_noise_tells_nothing() -> None:
    rng = np.random.default_rng(1)
    scores = latent_scores(rng.standard_normal((1500, 4)), rng.uniform(size=1500))
    # The mean of 25 random neighbours has 1/25 of the variance; standard error about 0.01 at this size.
    assert scores.knn_r2 == pytest.approx(-1 / 25, abs=0.04)
    assert max(scores.spearman_first_component, scores.spearman_best_component, scores.spearman_knn) < 0.1


@given(seed=st.integers(0, 100))
def test_a_curved_path_tells_all_to_neighbours_and_rotation_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(size=400)
    latents = np.stack([np.cos(3 * truth), np.sin(3 * truth), 0.01 * rng.standard_normal(400)], axis=1)
    scores = latent_scores(latents, truth)
    assert scores.knn_r2 > 0.97
    assert scores.spearman_knn > 0.97
    rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turned = latent_scores(latents @ rotation, truth)
    assert turned.knn_r2 == pytest.approx(scores.knn_r2, abs=1e-9)
    assert turned.spearman_first_component == pytest.approx(scores.spearman_first_component, abs=1e-9)


def test_the_sign_of_a_component_does_not_matter_and_the_best_is_never_below_the_first() -> None:
    rng = np.random.default_rng(2)
    truth = rng.uniform(size=300)
    latents = np.stack([5.0 * rng.standard_normal(300), -truth], axis=1)
    scores = latent_scores(latents, truth)
    assert scores.spearman_best_component > 0.9
    assert scores.spearman_first_component < 0.3
    first = abs(spearmanr(principal_coordinates(latents).coordinates[:, 0], truth).statistic)
    assert scores.spearman_first_component == pytest.approx(first)


def test_latents_that_are_all_the_same_score_nothing_and_do_not_fail() -> None:
    truth = np.random.default_rng(0).uniform(size=50)
    scores = latent_scores(np.zeros((50, 2)), truth)
    assert scores.knn_r2 < 0.05
    assert scores.spearman_first_component == 0.0


def test_few_particles_use_fewer_neighbours() -> None:
    latents = np.arange(6.0)[:, None]
    assert latent_scores(latents, np.arange(6.0)).neighbours == 5
    with pytest.raises(InputError, match="at least 3"):
        latent_scores(latents[:2], np.arange(2.0))


def test_a_value_that_is_no_number_is_named() -> None:
    latents = np.zeros((30, 2))
    latents[7, 1] = np.nan
    with pytest.raises(InputError, match="latents of particle 7"):
        latent_scores(latents, np.arange(30.0))

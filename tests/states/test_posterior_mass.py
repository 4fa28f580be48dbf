"""How much of a posterior lies near a place, and which width leaves how many particles."""

import numpy as np
import pytest

from cryoformer.states.posterior_mass import effective_number, posterior_mass, width_of_number


def posteriors(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    roots = 0.1 * rng.standard_normal((count, 2, 2))
    return rng.standard_normal((count, 2)), roots @ roots.transpose(0, 2, 1) + 0.01 * np.eye(2)


def test_mass_is_the_expectation_over_the_posterior() -> None:
    away, covariance = posteriors(5)
    draws = np.random.default_rng(1)
    for mean, spread, mass in zip(away, covariance, posterior_mass(away, covariance, 0.7), strict=True):
        some = draws.multivariate_normal(mean, spread, 40_000)
        expected = np.exp(-np.square(some).sum(axis=1) / (2 * 0.7**2))
        assert mass == pytest.approx(expected.mean(), abs=5 * expected.std() / 200)


def test_mass_is_a_share() -> None:
    away, covariance = posteriors(200)
    for width in (1e-3, 0.1, 1.0, 100.0):
        mass = posterior_mass(away, covariance, width)
        assert mass.min() >= 0
        assert mass.max() <= 1
    assert posterior_mass(away, covariance, 1e4).min() > 0.999


def test_of_two_particles_at_the_place_the_surer_one_counts_more() -> None:
    covariance = np.stack([0.01 * np.eye(2), np.eye(2)])
    sure, unsure = posterior_mass(np.zeros((2, 2)), covariance, 0.2)
    assert sure > 5 * unsure


@pytest.mark.parametrize("number", [60.0, 300.0, 900.0])
def test_width_leaves_the_number_asked_for(number: float) -> None:
    away, covariance = posteriors(1000)
    width = width_of_number(away, covariance, number)
    assert effective_number(posterior_mass(away, covariance, width)) == pytest.approx(number, rel=1e-3)


def test_posteriors_may_leave_more_than_was_asked_for() -> None:
    away, covariance = posteriors(1000)[0], np.tile(25.0 * np.eye(2), (1000, 1, 1))
    width = width_of_number(away, covariance, 50.0)
    assert effective_number(posterior_mass(away, covariance, width)) > 900

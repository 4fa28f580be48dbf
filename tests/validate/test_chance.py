"""Prediction from a few draws: right as often as it says."""

import numpy as np
import pytest

from cryoformer.validate.chance import SIGNIFICANCE, against_chance


def test_one_more_draw_of_chance_stands_out_as_rarely_as_the_significance_says() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(3.0, 0.5, (10_000, 6))
    found = [against_chance(first, others) for first, *others in draws.tolist()]
    p_values = np.array([one.p_value for one in found])
    # Three standard errors of a share of 0.01, and of 0.5, in 10,000.
    assert (p_values < SIGNIFICANCE).mean() == pytest.approx(SIGNIFICANCE, abs=0.003)
    assert (p_values < 0.5).mean() == pytest.approx(0.5, abs=0.015)
    assert np.mean([one.stands_out for one in found]) <= SIGNIFICANCE + 0.003


def test_what_is_far_above_stands_out_and_what_is_within_does_not() -> None:
    assert against_chance(9.0, [0.9, 1.1, 1.0, 1.2, 0.8]).stands_out
    assert not against_chance(1.15, [0.9, 1.1, 1.0, 1.2, 0.8]).stands_out
    assert not against_chance(0.1, [0.9, 1.1, 1.0, 1.2, 0.8]).stands_out


def test_draws_without_scatter_let_anything_above_stand_out_but_nothing_equal() -> None:
    assert against_chance(0.1, [0.0, 0.0, 0.0]).stands_out
    assert not against_chance(0.0, [0.0, 0.0, 0.0]).stands_out


def test_two_draws_are_too_few() -> None:
    with pytest.raises(ValueError, match="3 or more"):
        against_chance(1.0, [0.0, 0.1])


def test_draws_that_agree_may_be_told_not_to_be_trusted_too_far() -> None:
    draws = [0.001, 0.002, 0.001, 0.0, 0.003]
    assert against_chance(0.14, draws).stands_out
    assert not against_chance(0.14, draws, least_deviation=0.05).stands_out
    assert against_chance(0.3, draws, least_deviation=0.05).stands_out

"""Parts: what follows one motion is one part, whether it gains or loses; two motions are two."""

import numpy as np

from cryoformer.explore.attention import state_pairs
from cryoformer.explore.parts import density_patterns, moving_parts, query_parts

STATES = 96


def courses(motions: int, places: int, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Density [s, p] of places that each follow one of some independent motions, rising, falling or passing by."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-1.0, 1.0, (STATES, motions))
    owner = np.sort(rng.integers(0, motions, places))
    shift, slope = rng.uniform(-0.5, 0.5, places), rng.choice([-3.0, 3.0], places)
    values = np.tanh(slope * (t[:, owner] - shift)) + noise * rng.standard_normal((STATES, places))
    return values, owner


def patterns(values: np.ndarray) -> np.ndarray:
    places = np.arange(values.shape[1])
    return density_patterns((row for row in values[:, :, None, None]), places, state_pairs(STATES))


def test_gains_and_losses_of_one_motion_are_one_part() -> None:
    values, _ = courses(1, 300)
    assert moving_parts(patterns(values)).max() == 0


def test_independent_motions_are_told_apart_and_named_by_size() -> None:
    values, owner = courses(2, 400)
    values, owner = values[:, 80:], owner[80:]
    found = moving_parts(patterns(values))
    assert found.max() == 1
    first = np.bincount(owner[found == 0]).argmax()
    assert (owner == first).sum() > (owner != first).sum()
    assert ((owner == first) == (found == 0)).mean() > 0.95


def test_hardly_any_place_is_no_error() -> None:
    assert moving_parts(np.ones((2, 5))).tolist() == [0, 0]
    assert moving_parts(np.ones((0, 5))).tolist() == []


def test_queries_belong_where_they_change_most() -> None:
    deviation = np.array([[0.4, 0.0, 0.1], [0.3, 0.1, 0.1], [0.0, 0.5, 0.2]])
    assert query_parts(deviation, np.array([0, 0, 1])).tolist() == [0, 1, 1]


def test_pairs_are_of_different_states() -> None:
    pairs = state_pairs(5)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert pairs.max() < 5

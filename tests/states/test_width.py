"""The width of a state is chosen against the other half of the images: noise on one side, blur on the other."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cryoformer.states.width import WIDTHS, agreement_with_narrowest, choose_width, widths

BOX = 24


def maps_of(noises: list[float], wrong: list[float], seed: int = 0) -> np.ndarray:
    """Half maps of a density with this noise each, and so much of another density mixed in."""
    rng = np.random.default_rng(seed)
    state, other = (gaussian_filter(rng.standard_normal((BOX,) * 3), 1.5) * 10 for _ in range(2))
    return np.stack(
        [
            [share * other + (1 - share) * state + noise * rng.standard_normal((BOX,) * 3) for _ in range(2)]
            for noise, share in zip(noises, wrong, strict=True)
        ]
    ).astype(np.float32)


def chosen(maps: np.ndarray) -> int:
    return choose_width(agreement_with_narrowest(maps, np.ones((BOX,) * 3, dtype=np.float32)))


def test_without_blur_all_particles_are_taken() -> None:
    assert chosen(maps_of([2.0, 1.0, 0.5], [0.0, 0.0, 0.0])) == 2


def test_without_noise_the_narrowest_is_taken() -> None:
    assert chosen(maps_of([0.01, 0.01, 0.01], [0.0, 0.3, 0.6])) == 0


def test_between_noise_and_blur_the_middle_is_taken_though_halves_of_the_widest_agree_best() -> None:
    maps = maps_of([2.0, 0.7, 0.2], [0.0, 0.02, 0.7])
    own = [np.corrcoef(one.ravel(), two.ravel())[0, 1] for one, two in maps]
    assert int(np.argmax(own)) == 2
    assert chosen(maps) == 1


def test_of_two_that_are_as_good_the_narrower_is_taken() -> None:
    assert choose_width(np.array([[0.50, 0.40], [0.60, 0.45], [0.605, 0.45]])) == 1


def test_candidates_go_from_sure_particles_to_all() -> None:
    rng = np.random.default_rng(0)
    found = widths(2 * rng.standard_normal((2000, 1)), np.full((2000, 1, 1), 1e-4))
    assert len(found) == WIDTHS + 1
    numbers = [width.effective for width in found]
    assert numbers == sorted(numbers)
    assert numbers[0] == pytest.approx(80, rel=0.01)
    assert numbers[-1] == 2000
    assert all(width.weights.max() == 1 for width in found)


def test_posteriors_that_say_nothing_leave_all_particles() -> None:
    rng = np.random.default_rng(0)
    (only,) = widths(0.01 * rng.standard_normal((500, 2)), np.tile(np.eye(2), (500, 1, 1)))
    assert only.effective == 500
    assert np.isinf(only.deviation)


def test_latents_of_a_run_without_motion_leave_all_particles() -> None:
    """They differ by rounding, and so do their covariances from nothing."""
    rng = np.random.default_rng(0)
    (only,) = widths(1e-13 * rng.standard_normal((500, 1)), -1e-17 * np.ones((500, 1, 1)))
    assert only.effective == 500

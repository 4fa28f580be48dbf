"""Local resolution sees where detail is, and the noise of a map is that of its halves."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cryoformer.explore.half_maps import half_map_fsc, local_resolution, map_noise, noise_deviation

BOX, PIXEL = 48, 2.0


def test_the_sharp_side_is_resolved_better_than_the_blurred_one() -> None:
    rng = np.random.default_rng(0)
    detail = rng.standard_normal((BOX,) * 3)
    axis = np.arange(BOX) - BOX // 2
    ball = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2 < 20**2
    sharp, blurred = (ball * gaussian_filter(detail, sigma) * scale for sigma, scale in ((0.7, 3.0), (3.0, 10.0)))
    left = np.arange(BOX) < BOX // 2
    signal = np.where(left, sharp, blurred)
    halves = signal + 0.3 * rng.standard_normal((2, BOX, BOX, BOX))
    found = local_resolution(halves, PIXEL)
    fine, coarse = found[24, 24, 10], found[24, 24, 38]
    assert fine < 0.6 * coarse
    assert found.min() >= 2.0 * PIXEL


def test_pure_noise_is_resolved_nowhere_and_equal_halves_everywhere() -> None:
    noise = np.random.default_rng(1).standard_normal((2, BOX, BOX, BOX))
    assert np.median(local_resolution(noise, PIXEL)) > 20.0
    same = np.stack([noise[0], noise[0]])
    np.testing.assert_allclose(local_resolution(same, PIXEL), 2.0 * PIXEL)
    np.testing.assert_allclose(half_map_fsc(same), 1.0, atol=1e-6)
    assert np.abs(map_noise(same)).max() == 0.0


def test_the_noise_of_the_mean_of_good_maps_is_that_of_the_halves_over_root_two() -> None:
    rng = np.random.default_rng(2)
    signal = 30.0 * rng.standard_normal((BOX,) * 3)
    halves = signal + rng.standard_normal((2, BOX, BOX, BOX))
    assert noise_deviation(halves, PIXEL).mean() == pytest.approx(1.0 / np.sqrt(2.0), rel=0.1)


@pytest.mark.parametrize(("signal", "noise"), [(1.0, 1.0), (1.0, 4.0), (4.0, 1.0)])
def test_noise_of_the_map_is_that_of_the_best_filter(signal: float, noise: float) -> None:
    """White signal and noise of these powers per half: the mean has half the noise, and Wiener keeps S / (S + N)."""
    rng = np.random.default_rng(4)
    truth = np.sqrt(signal) * rng.standard_normal((BOX,) * 3)
    halves = truth + np.sqrt(noise) * rng.standard_normal((2, BOX, BOX, BOX))
    expected = signal / (signal + noise / 2) * np.sqrt(noise / 2)
    assert map_noise(halves).std() == pytest.approx(expected, rel=0.12)

"""FSC against a slow second implementation, an outside library, and what must hold for any volumes."""

import numpy as np
import pytest
import torch
import torch_fourier_shell_correlation
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.imaging.fsc import (
    compare_transforms,
    cryobench_fsc,
    fourier_shell_correlation,
    fsc_auc,
    half_transform,
    masked_fsc,
    perfect_auc,
    randomise_phases,
    resolution,
)


def slow_fsc(a: np.ndarray, b: np.ndarray, rule: str) -> np.ndarray:
    """Shell by shell over the whole complex transform, with the zero frequency in the middle."""
    box = a.shape[0]
    fa, fb = (np.fft.fftshift(np.fft.fftn(v.astype(np.float64))) for v in (a, b))
    axis = np.arange(box) - box // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    curve = []
    for shell in range(box // 2 + 1 if rule == "rounded" else box // 2):
        if rule == "rounded":
            inside = np.round(radius) == shell
        elif shell == 0:
            curve.append(1.0)
            continue
        else:
            inside = (radius < shell) & ~(radius < shell - 1)
        x, y = fa[inside], fb[inside]
        curve.append((np.vdot(y, x) / np.sqrt(np.vdot(x, x) * np.vdot(y, y))).real)
    return np.array(curve)


def pair(box: int, seed: int, correlation: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, noise = rng.standard_normal((2, box, box, box))
    return a, correlation * a + np.sqrt(1.0 - correlation**2) * noise


@given(box=st.integers(6, 17), seed=st.integers(0, 1000))
def test_both_shell_rules_agree_with_the_slow_sum_over_the_whole_space(box: int, seed: int) -> None:
    a, b = pair(box, seed)
    np.testing.assert_allclose(fourier_shell_correlation(a, b), slow_fsc(a, b, "rounded"), atol=1e-12)
    np.testing.assert_allclose(cryobench_fsc(a, b), slow_fsc(a, b, "cryobench"), atol=1e-12)


def test_an_outside_library_gives_the_same_curve_within_its_softer_shells() -> None:
    a, b = (torch.from_numpy(v) for v in pair(32, 3))
    ours = fourier_shell_correlation(a, b)
    # Its shells overlap (triangular weights) and it counts the half-space once, so curves of noise differ by chance:
    # a shell s holds about 2 pi s^2 independent coefficients.
    theirs = torch_fourier_shell_correlation.fourier_shell_correlation(a, b).numpy()
    shells = np.arange(4, 17)
    assert np.abs(ours - theirs)[shells].max() < 3.0 / np.sqrt(2.0 * np.pi * shells.min() ** 2)
    assert np.abs(ours - theirs)[8:].mean() < 0.02


@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), offset=st.integers(0, 11))
def test_scale_and_a_common_shift_change_nothing(seed: int, scale: float, offset: int) -> None:
    a, b = pair(12, seed)
    moved = [np.roll(v, (offset, 2 * offset, 1), axis=(0, 1, 2)) for v in (a, scale * b)]
    np.testing.assert_allclose(fourier_shell_correlation(*moved), fourier_shell_correlation(a, b), atol=1e-9)


def test_a_volume_agrees_with_itself_and_opposes_its_negative() -> None:
    a, _ = pair(64, 0)
    np.testing.assert_allclose(fourier_shell_correlation(a, 3.0 * a), 1.0, atol=1e-12)
    np.testing.assert_allclose(fourier_shell_correlation(a, -a), -1.0, atol=1e-12)
    assert fsc_auc(a, a) == pytest.approx(31 / 64)


@pytest.mark.parametrize(("box", "area"), [(64, 31 / 64), (128, 63 / 128)])
def test_the_largest_area_is_cryobenchs(box: int, area: float) -> None:
    assert perfect_auc(box) == area


def test_a_low_passed_copy_agrees_up_to_its_cut_off_and_not_beyond() -> None:
    box, cut = 20, 6
    a, _ = pair(box, 1)
    axis = np.fft.fftfreq(box, 1.0 / box)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2)
    blurred = np.fft.ifftn(np.where(np.round(radius) <= cut, np.fft.fftn(a), 0.0)).real
    curve = fourier_shell_correlation(a, blurred)
    np.testing.assert_allclose(curve[: cut + 1], 1.0, atol=1e-9)
    # What is left there is rounding, whose correlation with anything is small but not zero.
    assert np.abs(curve[cut + 1 :]).max() < 0.3


def test_an_empty_volume_correlates_with_nothing() -> None:
    a, _ = pair(8, 0)
    np.testing.assert_array_equal(fourier_shell_correlation(a, np.zeros_like(a)), 0.0)


def test_batches_and_tensors_give_what_single_arrays_give() -> None:
    pairs = [pair(10, seed) for seed in range(6)]
    a, b = (torch.from_numpy(np.stack(v)).reshape(2, 3, 10, 10, 10) for v in zip(*pairs, strict=True))
    single = np.stack([fourier_shell_correlation(*p) for p in pairs])
    np.testing.assert_allclose(fourier_shell_correlation(a, b).reshape(6, -1), single, atol=1e-12)
    areas = np.array([fsc_auc(*p) for p in pairs])
    np.testing.assert_allclose(fsc_auc(a.float(), b.float()).reshape(6), areas, atol=1e-6)


def test_both_measures_from_transforms_are_those_of_the_volumes() -> None:
    a, b = pair(12, 5)
    curve, area = compare_transforms(half_transform(a), half_transform(b))
    np.testing.assert_array_equal(curve, fourier_shell_correlation(a, b))
    assert float(area) == float(fsc_auc(a, b))


def test_resolution_is_interpolated_at_the_first_crossing_only() -> None:
    # Shell 3 is the first below 0.5; half-way between shells 2 (0.7) and 3 (0.3). What comes later is ignored.
    curve = np.array([1.0, 0.9, 0.7, 0.3, 0.9, 0.9])
    assert resolution(curve, 10, 2.0) == pytest.approx(10 * 2.0 / 2.5)
    assert resolution(curve, 10, 2.0, threshold=0.143) == 4.0


def test_resolution_never_leaves_the_range_from_nyquist_to_the_box() -> None:
    assert resolution(np.ones(6), 10, 1.5) == 3.0
    assert resolution(np.full(6, -1.0), 10, 1.5) <= 15.0
    assert resolution(np.array([1.0, np.nan, 1.0]), 4, 1.5) <= 6.0


@given(seed=st.integers(0, 1000), low=st.floats(0.1, 0.5), high=st.floats(0.5, 0.9))
def test_a_stricter_threshold_never_resolves_more(seed: int, low: float, high: float) -> None:
    curve = np.random.default_rng(seed).uniform(-0.2, 1.0, 20)
    assert resolution(curve, 38, 1.0, high) >= resolution(curve, 38, 1.0, low)


def low_passed_pair(box: int, cut: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two maps that share a signal up to a shell and have noise of their own, and a tight soft mask."""
    rng = np.random.default_rng(seed)
    axis = np.fft.fftfreq(box, 1.0 / box)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2)
    signal, one, two = rng.standard_normal((3, box, box, box))
    signal = np.fft.ifftn(np.where(np.round(radius) <= cut, np.fft.fftn(signal), 0.0)).real
    mask = np.exp(-(np.fft.fftshift(radius) ** 2) / (2 * (box / 12) ** 2))
    return signal + 0.05 * one, signal + 0.05 * two, mask


def test_correction_takes_the_masks_correlation_out_of_the_noise_and_leaves_the_signal() -> None:
    a, b, mask = low_passed_pair(32, 6, 0)
    plain, corrected = fourier_shell_correlation(a * mask, b * mask), masked_fsc(a, b, mask)
    # Beyond the signal there is noise only, but the tight mask carries the signal's shells up to there.
    assert plain[9:11].mean() > 0.7
    assert np.abs(corrected[9:11]).mean() < 0.3
    np.testing.assert_allclose(corrected[:7], plain[:7])


def test_correction_does_not_take_what_leaks_from_lower_shells_for_noise() -> None:
    """Where phases begin to be random, the mask brings the strong shells before into both maps."""
    box, seeds = 32, 6
    axis = np.fft.fftfreq(box, 1.0 / box)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    ratio = 40 * np.exp(-((radius / 5) ** 2))  # of signal and noise
    mask = np.exp(-(np.fft.fftshift(radius) ** 2) / (2 * (box / 10) ** 2))
    found = []
    for seed in range(seeds):
        signal, one, two = np.random.default_rng(seed).standard_normal((3, box, box, box))
        signal = np.fft.ifftn(np.fft.fftn(signal) * np.sqrt(ratio)).real
        found.append(masked_fsc(signal + one, signal + two, mask, seed))
    shells = radius.round()
    true = np.array([(ratio[shells == shell] / (1 + ratio[shells == shell])).mean() for shell in range(12)])
    # The curve is below 0.8 from shell 8 on, and is corrected from shell 10 on.
    off = np.mean(found, axis=0)[:12] - true
    assert abs(off[8:10].mean()) < 0.08
    assert abs(off[10:12].mean()) < 0.1


def test_without_a_mask_nothing_is_corrected() -> None:
    a, b, mask = low_passed_pair(24, 5, 1)
    # Random phases of two maps correlate by chance alone: 1 / sqrt(N) in a shell of N coefficients.
    shells = np.arange(7, 13)
    difference = masked_fsc(a, b, np.ones_like(mask)) - fourier_shell_correlation(a, b)
    assert np.abs(difference[shells]).max() < 4.0 / np.sqrt(2.0 * np.pi * shells.min() ** 2)


def test_a_mask_that_explains_everything_leaves_nothing_to_tell() -> None:
    """One voxel is a wave in every shell: any two maps correlate by 1 or by -1 under it, whatever their phases."""
    a, b = pair(16, 0)
    mask = np.zeros_like(a)
    mask[8, 8, 8] = 1.0
    a[8, 8, 8], b[8, 8, 8] = 1.0, -1.0
    curves = np.stack([masked_fsc(a, b, mask, seed) for seed in range(8)])
    np.testing.assert_allclose(curves[:, :3], -1.0)
    assert np.abs(curves).max() < 1 + 1e-9
    assert (curves[:, 3:] == 0.0).any(axis=1).sum() >= 2  # and -1 where the random phases happen to oppose


def test_random_phases_keep_amplitudes_and_the_lower_shells() -> None:
    a, _ = pair(16, 4)
    turned = randomise_phases(a, 4, np.random.default_rng(0))
    curve = fourier_shell_correlation(a, turned)
    np.testing.assert_allclose(curve[:4], 1.0, atol=1e-9)
    assert np.abs(curve[5:]).max() < 0.5
    np.testing.assert_allclose(np.abs(np.fft.rfftn(turned)), np.abs(np.fft.rfftn(a)), atol=1e-9)

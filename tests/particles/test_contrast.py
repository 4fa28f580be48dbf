"""Background normalisation and the detection of the contrast."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.imaging.background import background_mask, normalise_background
from cryoformer.imaging.ctf import CTFParameters, contrast_transfer
from cryoformer.imaging.fourier import fourier_to_images, images_to_fourier, shift_phases
from cryoformer.particles.contrast import contrast_sign, detect_sign

BOX, PIXEL_SIZE = 48, 3.0


def test_background_is_outside_the_circle():
    mask = background_mask(64)
    assert not mask[32, 32]
    assert not mask[32, 32 + 24]
    assert mask[32, 32 + 25]
    assert mask[0, 0]
    # Corner to circle: the share of a square outside a disc of three quarters of its side.
    assert mask.mean() == pytest.approx(1 - np.pi * 0.75**2 / 4, abs=0.01)


@given(offset=st.floats(-1e3, 1e3), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_normalised_images_do_not_depend_on_offset_and_scale(offset, scale, seed):
    original = np.random.default_rng(seed).normal(size=(3, 16, 16)).astype(np.float32)
    images = (original * scale + offset).astype(np.float32)
    normalised, mean, std = normalise_background(images)
    background = normalised[:, background_mask(16)]
    # float32 of values up to 1e3 with a spread down to 1e-3 keeps one digit of the background's spread at worst.
    tolerance = 1e-4 + 4e-7 * abs(offset) / scale
    np.testing.assert_allclose(background.mean(axis=1), 0, atol=tolerance)
    np.testing.assert_allclose(background.std(axis=1), 1, atol=tolerance)
    np.testing.assert_allclose(normalised, normalise_background(original)[0], atol=20 * tolerance)
    restored = normalised * std[:, None, None] + mean[:, None, None]
    np.testing.assert_allclose(restored, images, rtol=1e-5, atol=1e-4 * scale)


def test_what_is_inside_the_circle_does_not_count():
    images = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)
    changed = images.copy()
    changed[:, 10:22, 10:22] += 100
    _, mean, std = normalise_background(images)
    _, changed_mean, changed_std = normalise_background(changed)
    np.testing.assert_array_equal(mean, changed_mean)
    np.testing.assert_array_equal(std, changed_std)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4])
def test_constant_background(value):
    images = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
    images[1] = value
    with pytest.raises(InputError, match="image 1 of a batch of 3 has a constant background"):
        normalise_background(images)


def simulated(count, seed, snr, phase_shift=0.0, underfocus=1.0):
    """Small off-centre lumps of positive density through a CTF, with white noise."""
    generator = np.random.default_rng(seed)
    offset = np.arange(BOX) - BOX // 2
    y, x = np.meshgrid(offset, offset, indexing="ij")
    clean = np.zeros((count, BOX, BOX), np.float32)
    for _ in range(12):
        cx, cy = generator.normal(scale=5, size=(2, count, 1, 1))
        clean += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8).astype(np.float32)
    shifts = generator.uniform(-12, 12, (count, 2))
    defocus = underfocus * generator.uniform(8000, 25000, count)

    def column(value):
        return torch.tensor(np.broadcast_to(value, count).copy(), dtype=torch.float32)

    ctf = CTFParameters(column(defocus), column(defocus), *map(column, (0.0, 300.0, 2.7, 0.1, phase_shift, 0.0)))
    coefficients = images_to_fourier(torch.from_numpy(clean)) * contrast_transfer(ctf, BOX, PIXEL_SIZE)
    coefficients = coefficients * shift_phases(torch.from_numpy(shifts).float(), BOX, PIXEL_SIZE)
    signal = fourier_to_images(coefficients, BOX).numpy()
    noise = generator.normal(scale=signal.std() / np.sqrt(snr), size=signal.shape)
    return (signal + noise).astype(np.float32), ctf, np.full(count, PIXEL_SIZE), shifts


@pytest.mark.parametrize("phase_shift", [0.0, 90.0])
@pytest.mark.parametrize("gain", [1.0, 250.0, 1e-3])
def test_sign_of_simulated_images(phase_shift, gain):
    images, *rest = simulated(64, seed=0, snr=0.05, phase_shift=phase_shift)
    white = contrast_sign(gain * images + np.float32(3 * gain), *rest)
    dark = contrast_sign(np.float32(3 * gain) - gain * images, *rest)
    assert (white.sign, dark.sign) == (1, -1)
    assert white.certain
    assert dark.certain
    assert white.z == pytest.approx(-dark.z, rel=1e-2)
    assert "white on dark" in white.reason
    assert "inverted" in dark.reason


def test_overfocus_turns_the_image_but_not_the_verdict():
    """Overfocused, a particle of positive density looks dark; what counts is the density."""
    images, *rest = simulated(64, seed=0, snr=0.05, underfocus=-1.0)
    middle = slice(BOX // 2 - 6, BOX // 2 + 6)
    assert images[:, middle, middle].mean() < images.mean()
    found = contrast_sign(images, *rest)
    assert found.sign == 1
    assert found.certain


def test_pure_noise_is_reported_as_unclear():
    """The chance of a false claim at three standard errors is 0.3 %; none of these 20 seeds makes one."""
    _, *rest = simulated(64, seed=0, snr=0.05)
    for seed in range(20):
        found = contrast_sign(np.random.default_rng(seed).normal(size=(64, BOX, BOX)).astype(np.float32), *rest)
        assert not found.certain
        assert "unclear" in found.reason
        assert "--invert" in found.reason


def test_a_single_image_gives_no_certainty():
    images, ctf, pixel_sizes, shifts = simulated(1, seed=0, snr=1.0)
    assert not contrast_sign(images, ctf, pixel_sizes, shifts).certain


def test_detection_samples_the_whole_data_set(dataset):
    """Five particles of noise: no crash, no claim, and the row order does not matter."""
    particles = load_particles(dataset.write())
    assert detect_sign(particles, sample=3).sign in (1, -1)
    backwards = particles.subset(np.arange(5)[::-1])
    assert detect_sign(particles).z == pytest.approx(detect_sign(backwards).z, rel=1e-4)

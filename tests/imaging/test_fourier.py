"""The half-plane: origin, Parseval, crops and shifts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.imaging.fourier import (
    crop_fourier,
    fourier_to_images,
    half_plane_weights,
    images_to_fourier,
    radial_mean,
    shift_phases,
)


@pytest.mark.parametrize("box", [8, 9])
def test_parseval(box: int) -> None:
    images = torch.randn(4, box, box)
    power = (images_to_fourier(images).abs().square() * half_plane_weights(box)).sum(dim=(-2, -1)) / box**2
    assert torch.allclose(power, images.square().sum(dim=(-2, -1)), rtol=1e-4)


def test_origin_is_the_pixel_at_half_the_box() -> None:
    image = torch.zeros(1, 12, 12)
    image[0, 6, 6] = 1.0
    assert torch.allclose(images_to_fourier(image), torch.ones(1, 12, 7, dtype=torch.complex64))


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_shift_moves_content(dx: int, dy: int) -> None:
    image = torch.zeros(1, 16, 16)
    image[0, 8, 8] = 1.0
    moved = fourier_to_images(
        images_to_fourier(image) * shift_phases(torch.tensor([[2.0 * dx, 2.0 * dy]]), 16, 2.0), 16
    )
    assert int(moved.argmax()) == (8 + dy) * 16 + 8 + dx


def test_crop_keeps_coefficients_and_the_sum_of_an_image() -> None:
    images = torch.randn(2, 16, 16)
    cropped = crop_fourier(images_to_fourier(images), 16, 8)
    assert cropped.shape == (2, 8, 5)
    assert torch.allclose(cropped[:, 0, 0].real, images.sum(dim=(-2, -1)), atol=1e-4)
    assert torch.equal(cropped[:, -3:, :4], images_to_fourier(images)[:, -3:, :4])


@pytest.mark.parametrize("box", [7, 18])
def test_crop_refuses_odd_and_larger_boxes(box: int) -> None:
    with pytest.raises(ValueError, match="even, smaller"):
        crop_fourier(torch.zeros(1, 16, 9, dtype=torch.complex64), 16, box)


def test_radial_mean_of_white_noise_is_flat() -> None:
    noise = torch.randn(400, 16, 16, generator=torch.Generator().manual_seed(0))
    spectrum = radial_mean(images_to_fourier(noise).abs().square().mean(dim=0), 16)
    assert torch.allclose(spectrum, torch.full((9,), 256.0), rtol=0.15)


@pytest.mark.parametrize("box", [8, 9, 12])
def test_radial_mean_is_that_of_the_whole_plane(box: int) -> None:
    """Of images whose power differs from column to column, so that a pair counted once would show."""
    rng = np.random.default_rng(box)
    images = rng.standard_normal((3, box, box)).cumsum(axis=-1)
    power = torch.from_numpy(np.abs(np.fft.rfft2(images)) ** 2).float()
    k = np.fft.fftfreq(box, 1.0 / box)
    shell = np.sqrt(k[:, None] ** 2 + k**2).round().astype(int)
    whole = np.abs(np.fft.fft2(images)) ** 2
    expected = np.stack([whole[:, shell == s].mean(axis=1) for s in range(box // 2 + 1)], axis=1)
    np.testing.assert_allclose(radial_mean(power, box), expected, rtol=1e-4)

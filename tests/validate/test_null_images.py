"""Simulated particles that do not move: the noise has the spectrum asked for, the rest is the density."""

from dataclasses import replace

import torch

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.fourier import radial_mean
from cryoformer.validate.null_images import coloured_noise, null_images
from toy_images import BOX, PIXEL, blob, simulate


def coloured(count: int) -> FourierImages:
    images = simulate(count, noise=1.0).images
    return replace(images, noise_power=torch.linspace(5.0, 1.0, BOX // 2 + 1) * BOX**2)


def test_noise_has_the_power_of_every_shell() -> None:
    images = coloured(400)
    power = radial_mean(coloured_noise(images, 0).abs().square().mean(dim=0), BOX)
    # A shell of the 400 images holds at least 400 independent values, so its mean scatters by 5 %; three of that.
    assert torch.allclose(power, images.noise_power, rtol=0.15)


def test_noise_is_that_of_real_images() -> None:
    noise = coloured_noise(coloured(3), 1)
    again = torch.fft.rfft2(torch.fft.irfft2(noise, s=(BOX, BOX)))
    assert torch.allclose(noise, again, atol=1e-3)


def test_same_seed_same_images_another_seed_others() -> None:
    images = coloured(5)
    first = null_images(images, None, 3).coefficients
    assert torch.equal(first, null_images(images, None, 3).coefficients)
    assert not torch.allclose(first, null_images(images, None, 4).coefficients)


def test_images_less_the_density_are_the_noise() -> None:
    images, density = coloured(6), blob((10.0, 0.0, -5.0), 12.0)
    with_density = null_images(images, density, 2)
    left = with_density.minus(density).coefficients
    assert torch.allclose(left, coloured_noise(images, 2), atol=1e-3)
    # And the density is really in there.
    assert not torch.allclose(with_density.coefficients, left, atol=1.0)
    assert with_density.pixel_size_angstrom == PIXEL

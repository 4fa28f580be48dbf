"""A model in the Fourier domain: images and volumes show one density, at every box, and it learns from projections."""

from copy import copy

import numpy as np
import pytest
import torch

from cryoformer.decode.fourier_model import FourierConformationModel, slice_frequencies
from cryoformer.images.fourier_images import SliceProjector
from cryoformer.imaging.fourier import shells
from cryoformer.imaging.grids import crop_volume, grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.slices import SlicePlane
from cryoformer.model.fourier import FourierCryoFormer
from cryoformer.model.model_config import ModelConfig
from toy_images import BOX, PIXEL, simulate

SMALL = {"queries": 8, "channels": 8, "hash_levels": 8, "hash_table_log2": 13, "encoder_layers": 2}
LATENTS = torch.tensor([[0.5, -1.0], [1.5, 0.3]])


def new_model(amplitude: torch.Tensor | None = None) -> FourierConformationModel:
    torch.manual_seed(0)
    network = FourierCryoFormer(ModelConfig(domain="fourier", latent_dimension=2, **SMALL), BOX)
    network.set_amplitude(torch.linspace(50.0, 5.0, BOX // 2 + 1) if amplitude is None else amplitude)
    return FourierConformationModel(network, torch.zeros(BOX, BOX, BOX), torch.ones(BOX, BOX, BOX), PIXEL)


@pytest.fixture(scope="module")
def model() -> FourierConformationModel:
    return new_model()


@torch.no_grad()
def test_slices_are_the_transform_of_the_decoded_volume(model, moving) -> None:
    """Exact where a slice falls on the grid of the volume's transform: for turns by right angles."""
    turns = torch.tensor([[[0.0, 0, 1], [1, 0, 0], [0, 1, 0]], [[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]]])
    images = moving.images.take(torch.tensor([0, 1]))
    images = images.__class__(**vars(images) | {"rotations": turns})
    points = model.points(BOX)
    predicted = SlicePlane.of_box(BOX).take(model.predict(points, LATENTS, images))
    plane = SlicePlane.of_box(BOX)
    volumes = model.added(points, model.decode(points, LATENTS))
    for image in range(2):
        coefficients = torch.fft.fftn(torch.fft.ifftshift(volumes[image]))
        x, y, z = slice_frequencies(plane, turns)[image].round().long().T
        direct = coefficients[z, y, x] * plane.take(images.ctf[image : image + 1])[0]
        torch.testing.assert_close(predicted[image], direct, atol=1e-4 * float(direct.abs().max()), rtol=0)


@torch.no_grad()
def test_what_is_still_is_left_out(model, moving) -> None:
    """Of a density that ends well inside the box: the projector of volumes is made for those."""
    window = torch.exp(-grid_points(BOX, 1.0).square().sum(dim=1) / (2 * 3.0**2))
    images, points = moving.images.take(torch.arange(2)), model.points(BOX)
    without = model.predict(points, LATENTS, images)
    left = model.predict(points, LATENTS, images, still=window)
    expected = splat_project(window.expand(2, -1), points.points_angstrom, images.rotations, None, BOX, PIXEL)
    plane = SlicePlane.of_box(BOX)
    found, expected = plane.take(without - left), plane.take(expected * images.ctf)
    # Interpolation between padded coefficients is least right where it has nothing to do, at k = 0: four per cent here.
    torch.testing.assert_close(found, expected, atol=0.05 * float(expected.abs().max()), rtol=0)


@torch.no_grad()
def test_the_filter_is_in_the_images(model, moving) -> None:
    """The network at the frequencies of a shell, times the factor of the shell."""
    images, points = moving.images.take(torch.arange(2)), model.points(BOX)
    whole = model.predict(points, LATENTS, images)
    filtered = copy(model)
    filtered.gain = torch.ones(BOX // 2 + 1)
    filtered.gain[5:] = 0.25
    found = filtered.predict(points, LATENTS, images)
    outer = shells(BOX) >= 5
    torch.testing.assert_close(found[:, outer], 0.25 * whole[:, outer])
    torch.testing.assert_close(found[:, ~outer], whole[:, ~outer])


@torch.no_grad()
def test_a_coarse_box_holds_the_same_density(model) -> None:
    coarse, fine = model.points(16), model.points(BOX)
    volume = model.decode(fine, LATENTS).view(2, BOX, BOX, BOX)
    for cropped, decoded in zip(volume, model.decode(coarse, LATENTS).view(2, 16, 16, 16), strict=True):
        expected = spherical(crop_volume(cropped, 16))
        torch.testing.assert_close(
            decoded * coarse.volume_ratio, expected, atol=1e-4 * float(expected.abs().max()), rtol=0
        )


def spherical(volume: torch.Tensor) -> torch.Tensor:
    """Without the corners beyond the Nyquist sphere."""
    k = torch.fft.fftfreq(16, d=1 / 16)
    radius = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt()
    return torch.fft.ifftn(torch.fft.fftn(volume) * (radius < 8)).real


def test_a_density_is_learnt_from_its_projections() -> None:
    made = simulate(400, noise=0.3, moves=False)
    power = SliceProjector(made.density(0.5)).project(torch.eye(3)[None])[0].abs()
    model = new_model(torch.full((BOX // 2 + 1,), float(power.mean())))
    points, groups = model.points(BOX), model.network.parameter_groups()
    optimiser = torch.optim.Adam([{"params": groups["tables"], "lr": 1e-2}, {"params": groups["networks"]}], lr=3e-3)
    network = model.stage_network(points)
    for step in range(40):
        rows = torch.arange(16) + 16 * (step % 25)
        images = made.images.take(rows)
        predicted = model.predict(points, torch.zeros(16, 2), images, network)
        loss = torch.view_as_real(images.coefficients - predicted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    volume = next(model.volumes(torch.zeros(1, 2)))
    assert np.corrcoef(volume.ravel(), made.density(0.5).numpy().ravel())[0, 1] > 0.9

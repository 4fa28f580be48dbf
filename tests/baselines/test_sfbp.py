"""Sparse Fourier Backpropagation: its gradient, its image preparation, and a motion it must find."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoformer.assess.heterogeneity import latent_scores
from cryoformer.baselines import sfbp
from cryoformer.baselines.interface import FitData
from cryoformer.baselines.sfbp_model import SparseFourierVAE, TouchedRows, VoxelDecoder, derotate
from cryoformer.formats import load_particles
from cryoformer.images.fourier_images import checkerboard
from cryoformer.images.settings import ImageSettings
from cryoformer.imaging.fourier import fourier_to_images
from cryoformer.imaging.grids import crop_volume, grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.slices import SlicePlane, interpolate_slices
from cryoformer.linear.consensus import wiener_backprojection
from cryoformer.progress import RunLog
from toy_images import BOX, PIXEL, blob, moving_centre, simulate


@pytest.fixture
def table() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    index = torch.randint(0, 30, (40, 8), generator=generator)
    weight = torch.rand(40, 8, generator=generator, dtype=torch.float64)
    return values, index, weight


def test_the_sparse_gradient_is_that_of_dense_autograd(table) -> None:
    values, index, weight = table
    sparse, dense = values.clone().requires_grad_(), values.clone().requires_grad_()
    ours = TouchedRows.apply(sparse, index, weight)
    plain = (dense[index] * weight[..., None]).sum(dim=1)
    torch.testing.assert_close(ours, plain)
    for output in (ours, plain):
        (output.square().sum() + output.sin().sum()).backward()
    assert sparse.grad is not None
    assert dense.grad is not None
    assert sparse.grad.is_sparse
    torch.testing.assert_close(sparse.grad.to_dense(), dense.grad, rtol=1e-12, atol=1e-12)


def test_only_voxels_that_were_read_have_a_gradient(table) -> None:
    values, index, weight = table
    values.requires_grad_()
    TouchedRows.apply(values, index, weight).sum().backward()
    assert values.grad is not None
    np.testing.assert_array_equal(values.grad.coalesce().indices()[0], np.unique(index))


def test_the_decoder_gives_projections_of_the_volume_it_decodes(moving) -> None:
    amplitude = torch.linspace(3.0, 1.0, BOX // 2 + 1)
    decoder = VoxelDecoder(BOX, 2, 3, amplitude, moving.still)
    np.testing.assert_allclose(decoder.volume(torch.zeros(2)), moving.still, atol=1e-3)
    plane = SlicePlane.of_box(BOX)
    rotations = moving.images.rotations[:4]
    slices = decoder.slices(torch.zeros(4, 2), interpolate_slices(plane, rotations)).detach()
    shell = torch.sqrt(plane.kx**2 + plane.ky**2).round().long()
    points = grid_points(BOX, PIXEL)
    true = splat_project(moving.still.reshape(1, -1).expand(4, -1), points, rotations, None, BOX, PIXEL)
    predicted, expected = slices * amplitude[shell], plane.take(true)
    assert float((predicted - expected).abs().square().sum() / expected.abs().square().sum()) < 1e-3


def test_images_of_one_view_look_the_same_once_derotated(moving) -> None:
    angle = torch.tensor([0.0, 0.7, 2.9])
    turn = torch.zeros(3, 3, 3)
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = angle.cos(), -angle.sin(), angle.sin(), angle.cos()
    turn[:, 2, 2] = 1
    rotations = turn @ moving.images.rotations[0]
    density = moving.density(0.2).reshape(1, -1).expand(3, -1)
    half_planes = splat_project(density, grid_points(BOX, PIXEL), rotations, None, BOX, PIXEL)
    images = derotate(fourier_to_images(half_planes, BOX), rotations)
    for other in images[1:]:
        assert np.corrcoef(images[0].flatten(), other.flatten())[0, 1] > 0.995


def test_the_start_is_the_back_projection_and_zero_if_asked_for(moving) -> None:
    consensus = wiener_backprojection(moving.images).volume
    model = sfbp.new_model(moving.images, sfbp.Settings())
    assert isinstance(model, SparseFourierVAE)
    np.testing.assert_allclose(model.decoder.volume(torch.zeros(2)), consensus, atol=1e-2)
    empty = sfbp.new_model(moving.images, sfbp.Settings(start="zero"))
    assert empty.decoder.table.abs().max().item() == 0.0


def test_coefficients_without_ctf_count_for_nothing(moving) -> None:
    """The start does not depend on the latent, so that only the error itself sees what is put there."""
    model = sfbp.new_model(moving.images, sfbp.Settings(width=32, bases=2))
    images = checkerboard(moving.images.take(torch.arange(50)))[0]
    elsewhere = (images.ctf == 0) * torch.randn(images.ctf.shape, generator=torch.Generator().manual_seed(0))
    disturbed = replace(images, coefficients=images.coefficients + 1e3 * elsewhere)
    losses = [model.loss(some, torch.Generator().manual_seed(0))[0].item() for some in (images, disturbed)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_training_lowers_the_error_and_stops_when_time_is_up(moving, stack: Path, tmp_path: Path) -> None:
    settings = sfbp.Settings(epochs=2, width=32, bases=2, learning_rate=1e-3, batch=64)
    model = sfbp.new_model(moving.images, settings)
    few = moving.images.take(torch.arange(100))
    before = model.loss(few, torch.Generator().manual_seed(0))[0].item()
    particles = load_particles(stack / "particles.star")
    with RunLog(None) as log:
        data, late = (FitData(particles, tmp_path, ImageSettings(invert="no"), seconds, log) for seconds in (None, 0.0))
        assert sfbp.train(model, moving.images, settings, data) == 2.0
        assert model.loss(few, torch.Generator().manual_seed(0))[0].item() < before
        assert sfbp.train(model, moving.images, settings, late) == pytest.approx(0.1)


@pytest.mark.slow
def test_a_moving_blob_is_found_from_many_clean_images(stack: Path, tmp_path: Path) -> None:
    """It takes them: with few or noisy images the free voxels of the bases fit noise before the encoder sees motion."""
    made = simulate(2500, noise=0.1)
    images = made.images.crop(16)
    torch.manual_seed(0)
    settings = sfbp.Settings(epochs=20, learning_rate=2e-3, batch=64)
    model = sfbp.new_model(images, settings)
    with RunLog(None) as log:
        data = FitData(load_particles(stack / "particles.star"), tmp_path, ImageSettings(invert="no"), None, log)
        sfbp.train(model, images, settings, data)
    with torch.no_grad():
        latents, _ = model.encode(images)
    assert latent_scores(latents.numpy(), made.t).knn_r2 > 0.6
    low, high = (model.decoder.volume(latents[np.abs(made.t - t) < 0.1].mean(dim=0)) for t in (0.1, 0.9))
    places = [crop_volume(blob(moving_centre(t), 8.0), 16) for t in (0.1, 0.9)]
    overlaps = torch.tensor([[float((volume * place).sum()) for place in places] for volume in (low, high)])
    assert overlaps[0, 0] > 1.1 * overlaps[1, 0]
    assert overlaps[1, 1] > 1.1 * overlaps[0, 1]

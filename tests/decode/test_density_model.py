"""Images and volumes of a model show one density, whatever the box; images may share a state."""

import numpy as np
import torch

from cryoformer.decode.density_model import ConformationModel, DecodedPoints
from cryoformer.imaging.fourier import crop_fourier, radii
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.model_config import ModelConfig
from toy_images import BOX, PIXEL


def small_model() -> ConformationModel:
    torch.manual_seed(0)
    config = ModelConfig(queries=4, channels=8, hash_levels=3, hash_table_log2=8, encoder_layers=2, latent_dimension=2)
    window = torch.zeros(BOX, BOX, BOX)
    window[8:16, 8:16, 8:16] = 1
    return ConformationModel(CryoFormer(config, BOX), torch.zeros(BOX, BOX, BOX), window, PIXEL)


class BlobModel(ConformationModel):
    """A smooth blob that moves along x with the latent, in place of the network."""

    def decode(self, points: DecodedPoints, latents: torch.Tensor) -> torch.Tensor:
        centres = torch.stack([latents[:, 0], torch.full((len(latents),), 10.0), torch.zeros(len(latents))], dim=1)
        away = (points.points_angstrom[None] - centres[:, None]).square().sum(dim=2)
        return torch.exp(-away / (2 * 12.0**2)) * points.window


def blob_model() -> BlobModel:
    model = small_model()
    return BlobModel(model.network, model.static, torch.ones_like(model.static), PIXEL)


BLOBS = torch.tensor([[-15.0], [0.0], [5.0]])


def test_images_show_the_volumes_filter_included(moving) -> None:
    model, images = blob_model(), moving.images.take(torch.arange(3))
    model.gain = torch.linspace(1.0, 0.2, BOX // 2 + 1)
    points = model.points(BOX)
    volumes = torch.stack([torch.from_numpy(v) for v in model.volumes(BLOBS)])
    expected = splat_project(volumes.flatten(1), grid_points(BOX, PIXEL), images.rotations, None, BOX, PIXEL)
    found = model.predict(points, BLOBS, images)
    # Shells are steps: an image's shell and that of the volume's coefficients around it differ at their edges.
    band = radii(BOX) < BOX // 2 - 1
    assert float((found - expected * images.ctf)[:, band].norm() / found[:, band].norm()) < 0.03
    model.gain = torch.ones(BOX // 2 + 1)
    assert float((model.predict(points, BLOBS, images) - found).norm() / found.norm()) > 0.1


def test_coarse_points_show_the_same_images(moving) -> None:
    model, images = blob_model(), moving.images.take(torch.arange(3))
    fine = model.predict(model.points(BOX), BLOBS, images)
    coarse = model.predict(model.points(12), BLOBS, images.crop(12))
    expected, band = crop_fourier(fine, BOX, 12), radii(12) < 4
    # Points as coarse as pixels alias through the bilinear kernel, more and more towards Nyquist.
    assert float((coarse - expected)[:, band].norm() / expected[:, band].norm()) < 0.03


@torch.no_grad()
def test_the_network_gives_one_density_at_coarse_and_fine_points() -> None:
    """Every second point of the full box is a point of half the box."""
    model = small_model()
    latents = torch.tensor([[0.5, -1.0]])
    volumes = [model.added(points, model.decode(points, latents)) for points in (model.points(BOX), model.points(12))]
    assert float(volumes[1].std()) > 0
    inside = volumes[1][0] != 0
    # Added up to a factor: the filter is 1, and a coarse point stands for eight only where it is projected.
    torch.testing.assert_close(volumes[1][0][inside], volumes[0][0, ::2, ::2, ::2][inside], rtol=1e-3, atol=1e-5)


def test_volumes_are_the_static_density_and_what_is_added_to_it() -> None:
    model = blob_model()
    alone = np.stack(list(model.volumes(BLOBS, batch=2)))
    model.static = torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(np.stack(list(model.volumes(BLOBS))), alone + model.static.numpy(), atol=1e-5)
    highest = [np.unravel_index(v.argmax(), v.shape) for v in alone]  # z, y, x; the centre is at 12
    assert [tuple(map(int, place)) for place in highest] == [(12, 14, 12 + x) for x in (-3, 0, 1)]


def test_shared_states_predict_what_repeated_ones_do(moving) -> None:
    model = small_model()
    assert model.shares_states
    points, images = model.points(BOX), moving.images.take(torch.arange(6))
    states, shown = torch.tensor([[0.5, -1.0], [-0.3, 0.8], [2.0, 0.1]]), torch.tensor([0, 0, 1, 2, 2, 2])
    found = {}
    for name, inputs, of in (("shared", states, shown), ("repeated", states[shown], None)):
        model.network.zero_grad()
        predicted = model.predict(points, inputs, images, state=of)
        torch.view_as_real(predicted - images.coefficients).square().sum().backward()
        gradients = [p.grad.flatten() for p in model.network.parameters() if p.grad is not None]
        found[name] = predicted.detach(), torch.cat(gradients)
    (shared, gradient), (repeated, expected) = found["shared"], found["repeated"]
    assert torch.allclose(shared, repeated, atol=1e-5 * float(repeated.abs().max()))
    assert float((gradient - expected).norm() / expected.norm()) < 1e-4


def test_every_image_shows_the_state_it_is_given(moving) -> None:
    model = small_model()
    points, images = model.points(BOX), moving.images.take(torch.tensor([5, 5]))
    states = torch.tensor([[0.5, -1.0], [-0.3, 0.8]])
    predicted = model.predict(points, states, images, state=torch.tensor([1, 0]))
    assert not torch.allclose(predicted[0], predicted[1])
    assert torch.allclose(predicted[1], model.predict(points, states[:1], images.take(torch.tensor([0])))[0], atol=1e-3)

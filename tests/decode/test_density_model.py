"""Images that share a state: the same predictions and gradients as when each has it for itself."""

import torch

from cryoformer.decode.density_model import ConformationModel
from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.model_config import ModelConfig
from toy_images import BOX, PIXEL


def small_model() -> ConformationModel:
    torch.manual_seed(0)
    config = ModelConfig(queries=4, channels=8, hash_levels=3, hash_table_log2=8, encoder_layers=2, latent_dimension=2)
    window = torch.zeros(BOX, BOX, BOX)
    window[8:16, 8:16, 8:16] = 1
    return ConformationModel(CryoFormer(config, BOX), torch.zeros(BOX, BOX, BOX), window, PIXEL)


def test_shared_states_predict_what_repeated_ones_do(moving) -> None:
    model = small_model()
    points, images = model.points(BOX), moving.images.take(torch.arange(6))
    states, cell = torch.tensor([[0.5, -1.0], [-0.3, 0.8], [2.0, 0.1]]), torch.tensor([0, 0, 1, 2, 2, 2])
    found = {}
    for name, inputs, of in (("shared", states, cell), ("repeated", states[cell], None)):
        model.network.zero_grad()
        predicted = model.predict(points, inputs, images, cell=of)
        torch.view_as_real(predicted - images.coefficients).square().sum().backward()
        gradients = [p.grad.flatten() for p in model.network.parameters() if p.grad is not None]
        found[name] = predicted.detach(), torch.cat(gradients)
    (shared, gradient), (repeated, expected) = found["shared"], found["repeated"]
    assert torch.allclose(shared, repeated, atol=1e-5 * float(repeated.abs().max()))
    assert float((gradient - expected).norm() / expected.norm()) < 1e-4


def test_every_image_shows_the_state_of_its_cell(moving) -> None:
    model = small_model()
    points, images = model.points(BOX), moving.images.take(torch.tensor([5, 5]))
    states = torch.tensor([[0.5, -1.0], [-0.3, 0.8]])
    predicted = model.predict(points, states, images, cell=torch.tensor([1, 0]))
    assert not torch.allclose(predicted[0], predicted[1])
    assert torch.allclose(predicted[1], model.predict(points, states[:1], images.take(torch.tensor([0])))[0], atol=1e-3)

"""Latents of an image encoder: the principal components of its features, found without forming them."""

import numpy as np
import torch

from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.model_config import ModelConfig
from cryoformer.training.encoder_inputs import ImageInputs
from cryoformer.training.encoder_latents import encoder_latents, principal_components


def test_principal_components_are_those_of_the_whole_features() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 6, generator=generator, dtype=torch.float64) ** 2
    weight = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    features = (hidden @ weight.T).numpy()
    scores, mean, basis, share = principal_components(hidden, weight, 3)
    _, size, directions = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    best = (features - features.mean(axis=0)) @ directions[:3].T @ directions[:3]
    np.testing.assert_allclose((scores @ basis).numpy(), best, atol=1e-9)
    np.testing.assert_allclose(mean.numpy(), features.mean(axis=0))
    assert abs(share - (size[:3] ** 2).sum() / (size**2).sum()) < 1e-9
    torch.testing.assert_close(scores.T @ scores / 50, torch.eye(3, dtype=torch.float64))


def test_no_more_components_than_there_are() -> None:
    hidden = torch.randn(50, 1, dtype=torch.float64) * torch.ones(1, 4, dtype=torch.float64)
    scores, _, _, share = principal_components(hidden, torch.randn(9, 4, dtype=torch.float64), 3)
    assert scores.shape == (50, 1)
    assert abs(share - 1) < 1e-9


@torch.no_grad()
def test_latents_in_place_of_images_give_the_same_density(moving) -> None:
    """With as many components as the features have, nothing is lost."""
    torch.manual_seed(0)
    settings = {"queries": 4, "channels": 4, "hash_levels": 4, "encoder_layers": 2, "encoder_width": 12}
    network = CryoFormer(ModelConfig(encoder="mlp", image_box=16, **settings), box=24)
    images = ImageInputs(moving.images, 16)
    found = encoder_latents(network, images, 12)
    points, rows = torch.rand(30, 3), torch.tensor([5, 100, 300])
    assert found.latents.shape == (600, 12)
    assert found.share > 0.999
    expected = network(points, images.inputs(rows))
    assert expected.std(dim=0).mean() > 1e-3
    torch.testing.assert_close(found.network(points, found.latents[rows]), expected, atol=1e-4, rtol=1e-3)
    few = encoder_latents(network, images, 2)
    assert few.latents.shape == (600, 2)
    assert 0.1 < few.share < 0.95
    # What was trained stays as it was.
    assert network.config.encoder == "mlp"

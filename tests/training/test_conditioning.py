"""How much densities vary over the population."""

import torch

from cryoformer.decode.density_model import ConformationModel
from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.model_config import ModelConfig
from cryoformer.training.conditioning import conditioning
from cryoformer.training.encoder_inputs import KnownLatents
from toy_images import BOX, PIXEL


def model_of(side: int) -> ConformationModel:
    """A network that varies in a cube of so many voxels."""
    torch.manual_seed(0)
    config = ModelConfig(queries=4, channels=8, hash_levels=3, hash_table_log2=8, encoder_layers=2, latent_dimension=2)
    window = torch.zeros(BOX, BOX, BOX)
    window[10 : 10 + side, 10 : 10 + side, 10 : 10 + side] = 1
    return ConformationModel(CryoFormer(config, BOX), torch.zeros(BOX, BOX, BOX), window, PIXEL)


def test_a_network_that_varies_is_conditioned_and_one_point_has_nothing_to_vary_against() -> None:
    latents = KnownLatents(torch.randn(50, 2, generator=torch.Generator().manual_seed(1)))
    found = [conditioning(model, model.points(BOX), latents) for model in (model_of(4), model_of(1))]
    assert found[0] > 0.01
    assert found[1] == 0.0

"""A model that was written as tensors and facts is the same model again."""

import numpy as np
import pytest
import torch

from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.factory import model_from_tensors, model_tensors, new_model, new_network
from cryoformer.decode.fourier_model import FourierConformationModel
from cryoformer.model.model_config import ModelConfig
from toy_images import BOX, PIXEL, blob

SMALL = {"queries": 4, "channels": 8, "hash_levels": 3, "hash_table_log2": 8, "encoder_layers": 2}
LATENTS = torch.tensor([[0.5, -1.0], [-2.0, 0.3]])


@pytest.mark.parametrize(("domain", "kind"), [("real", ConformationModel), ("fourier", FourierConformationModel)])
def test_a_model_read_again_decodes_the_same(domain: str, kind: type) -> None:
    torch.manual_seed(0)
    network = new_network(ModelConfig(domain=domain, latent_dimension=2, **SMALL), BOX)
    if domain == "fourier":
        network.set_amplitude(torch.linspace(50.0, 5.0, BOX // 2 + 1))
    model = new_model(network, blob((0, 0, 0), 10.0), blob((10.0, 0.0, 0.0), 8.0), PIXEL)
    model.gain = torch.linspace(1.0, 0.3, BOX // 2 + 1)
    again = model_from_tensors(*model_tensors(model))
    assert type(again) is type(model) is kind
    assert (again.box, again.pixel_size_angstrom) == (BOX, PIXEL)
    first, second = (np.stack(list(each.volumes(LATENTS))) for each in (model, again))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first[0] - first[1]).max() > 0

"""The toy run with what exploring needs besides: half maps, and a small network to ask for its attention."""

from pathlib import Path

import numpy as np
import torch

from assess.toy_run import BOX, PIXEL_SIZE, ToyRun, blob
from cryoformer.decode.density_model import ConformationModel
from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.model_config import ModelConfig

NOISE = 0.02


class ExploredToy(ToyRun):
    """A finished run as analysis sees it. The network is untrained: only its attention is asked for."""

    def __init__(self, path: Path, blend: float = 1.0, conditioning: float = 0.2, decoder: str = "transformer") -> None:
        super().__init__(path, blend, conditioning)
        rng = np.random.default_rng(2)
        self.half_maps = (self.consensus + NOISE * rng.standard_normal((2, BOX, BOX, BOX))).astype(np.float32)
        self.model = small_model(decoder)


def small_model(decoder: str = "transformer") -> ConformationModel:
    """A network of eight queries over the upper half of the toy molecule."""
    torch.manual_seed(0)
    settings = {"queries": 8, "channels": 8, "density_hidden": 8, "encoder_width": 16, "encoder_layers": 2}
    network = CryoFormer(ModelConfig(latent_dimension=2, blocks=1, decoder=decoder, **settings), BOX)
    window = torch.as_tensor(blob((0, 0, 4), 3.0) > 0.2).float()
    return ConformationModel(network, torch.zeros(BOX, BOX, BOX), window, PIXEL_SIZE)

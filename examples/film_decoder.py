"""A decoder of one's own in one file: feature-wise linear modulation (FiLM; Perez et al., AAAI 2018).

    gamma, beta = MLP(mean token of F_D)
    sigma = w2 . ReLU(gamma * (phi(x) A W_1) + beta) + b2

The image sets gain and offset of every hidden unit, where "concatenate" sets the offset alone. On a small simulated
blob that swings (tests/model/test_registry.py) it predicts images that it has not seen as well as "concatenate" does,
and less well than the transformer: log likelihoods of +3.3, +3.4 and +4.0 an image over a still density. Train it with

    cryoformer --plugin examples/film_decoder.py train particles.star --out RUN --set model.decoder=film

and open the run with the same ``--plugin`` (or, from Python, after importing this file).
"""

import torch
from torch import Tensor, nn

from cryoformer.model.density_heads import output_layer, spatial_output
from cryoformer.model.model_config import ModelConfig
from cryoformer.model.registry import register_decoder


@register_decoder("film")
class FiLMDecoder(nn.Module):
    """Density [b, p] of spatial features [p, f] and the deformation feature F_D [b, N, C]."""

    def __init__(self, config: ModelConfig, mean: Tensor, spread: float) -> None:
        super().__init__()
        hidden = config.density_hidden
        # The package's own start: places differ, and the density's mean over space is near zero.
        self.spatial = spatial_output(mean, hidden)
        self.modulation = nn.Linear(config.channels, 2 * hidden)
        self.hidden = nn.Linear(hidden, hidden)
        self.w2, self.b2 = output_layer(hidden)

    def forward(self, features: Tensor, deformation: Tensor) -> Tensor:
        gain, offset = self.modulation(deformation.mean(dim=1)).chunk(2, dim=-1)
        places = features @ self.spatial
        modulated = torch.relu((1 + gain[:, None]) * places + offset[:, None])
        return torch.relu(self.hidden(modulated)) @ self.w2 + self.b2

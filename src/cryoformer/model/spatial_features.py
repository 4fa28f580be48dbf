r"""Implicit spatial feature volume F_S(x) (paper 3.3, eq. 2; 5, "Implementation details").

    phi(x) = [ReLU(W e(x) + b), 1]          e: hash grid, or sines for the ablation of table 1
    F_S(x) = phi(x) A                       A: the tiny MLP's output layer, kept by the density head

This module gives phi [p, hidden + 1]. F_S is linear in it, and so are the attention logits F_S K^T = phi (K A^T)^T; the
density head therefore applies A to the few keys of an image, not to every point. The arithmetic per point and image
falls from C = 64 multiply-adds per key to 17, with not a digit changed in what is computed.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cryoformer.model.hash_grid import HashGrid
from cryoformer.model.model_config import ModelConfig
from cryoformer.model.sparse_encoding import EncodingMatrix


class PositionalEncoding(nn.Module):
    """Sines and cosines of the coordinates, then a large MLP: what the hash grid replaces (paper table 1).

    Frequencies are geometric from one half to box / 2 periods per box edge, as many as cryoDRGN takes (box / 2).
    """

    frequencies: Tensor

    def __init__(self, box: int, layers: int, width: int) -> None:
        super().__init__()
        count = max(box // 2, 2)
        exponent = torch.arange(count, dtype=torch.float32) / (count - 1)
        self.register_buffer("frequencies", 0.5 * float(box) ** exponent)
        sizes = [6 * count, *[width] * layers]
        self.width = width
        self.network = nn.Sequential(*[part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())])

    def forward(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p width"]:
        """Features at ``points`` (x, y, z in [0, 1])."""
        angle = (2.0 * math.pi) * points[:, :, None] * self.frequencies
        encoded: Tensor = self.network(torch.cat((angle.sin(), angle.cos()), dim=-1).flatten(1))
        return encoded


class SpatialFeatures(nn.Module):
    """phi(x): encoding and hidden layer of the tiny MLP, and a constant 1 that carries the output layer's bias."""

    def __init__(self, config: ModelConfig, box: int) -> None:
        super().__init__()
        self.encoding: HashGrid | PositionalEncoding
        if config.spatial_encoding == "hash":
            # A molecule as large as the box has coefficients that are independent at every whole frequency: trilinear
            # interpolation between them needs a lattice twice as fine, as a padded transform has.
            natural = 2 * box if config.domain == "fourier" else box
            finest = config.finest_resolution or max(natural, config.base_resolution)
            self.encoding = HashGrid(
                config.hash_levels, config.hash_features, config.hash_table_log2, config.base_resolution, finest
            )
        else:
            self.encoding = PositionalEncoding(box, config.positional_layers, config.positional_width)
        self.hidden = nn.Linear(self.encoding.width, config.spatial_hidden)
        nn.init.kaiming_uniform_(self.hidden.weight, nonlinearity="relu")
        # The encoding starts near zero: a unit with a negative bias would be off everywhere, and stay so.
        nn.init.uniform_(self.hidden.bias, 0.0, 0.2)
        self.width = config.spatial_hidden + 1

    def prepare(self, points: Float[Tensor, "p 3"]) -> EncodingMatrix | Tensor:
        """What :meth:`forward` takes in place of points that stay: their encoding matrix, where there is one."""
        return self.encoding.encoding_matrix(points) if isinstance(self.encoding, HashGrid) else points

    def forward(self, points: EncodingMatrix | Float[Tensor, "p 3"]) -> Float[Tensor, "p width"]:
        """phi at ``points`` (x, y, z in [0, 1]), or at the points of an encoding matrix."""
        if isinstance(points, EncodingMatrix):
            if not isinstance(self.encoding, HashGrid):
                raise TypeError("an encoding matrix belongs to a hash grid; this model has a positional encoding")
            encoded = self.encoding.encode_fixed(points)
        else:
            encoded = self.encoding(points)
        hidden = torch.relu(self.hidden(encoded))
        return torch.cat((hidden, hidden.new_ones(len(hidden), 1)), dim=1)

    @torch.no_grad()
    def mean_and_spread(self, points: int = 1024) -> tuple[Float[Tensor, " width"], float]:
        """phi averaged over random points, and the root mean square of its hidden units' deviations from that."""
        features = self(torch.rand(points, 3, device=self.hidden.weight.device, dtype=self.hidden.weight.dtype))
        spread = features[:, :-1].std(dim=0, correction=0).square().mean().sqrt()
        return features.mean(dim=0), float(spread)

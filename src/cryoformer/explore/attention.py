"""3D attention maps (paper 5.4 and figure 8): which structure query speaks for which place, and how that changes.

At every decoded point the spatial attention gives each query a weight; the weights add to 1. Over a sample of the
data's own states each weight has a mean and a standard deviation: the first says where a query works, the second where
it takes part in a change. The network decodes the flexible points alone (``volumes/flexible.mrc``); elsewhere the
static density stands and attention is zero by construction.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.decode.density_model import ConformationModel, DecodedPoints

CHUNK_ELEMENTS = 2**24
PAIRS = 128
"""So many pairs of states make up the pattern of a point (see :mod:`.parts`)."""


@dataclass(frozen=True)
class AttentionOverStates:
    """Attention of N queries at p points over the states given."""

    voxels: Int[np.ndarray, " p"]
    """Points as indices into the flattened volume."""
    mean: Float[np.ndarray, "p n"]
    deviation: Float[np.ndarray, "p n"]
    """Standard deviation of each weight over the states."""
    patterns: Float[np.ndarray, "p q"]
    """Squared distance of the attention between the two states of each pair."""

    @property
    def change(self) -> Float[np.ndarray, " p"]:
        """How much attention changes at a point: root of the summed variances of all queries."""
        return np.sqrt((self.deviation**2).sum(axis=1))

    def volume(self, values: Float[np.ndarray, " p"], box: int) -> Float[np.ndarray, "d d d"]:
        """Values at the points as a volume [z, y, x], zero elsewhere."""
        volume = np.zeros(box**3, dtype=np.float32)
        volume[self.voxels] = values
        return volume.reshape(box, box, box)


def has_attention(model: ConformationModel) -> bool:
    """Whether the model's queries attend over space (not without a transformer, nor in the Fourier domain)."""
    return model.network.attends


@torch.no_grad()
def attention_over_states(
    model: ConformationModel, latents: Float[np.ndarray, "s k"], seed: int = 0
) -> AttentionOverStates:
    """Attention at every decoded point of the full box, over states given by their latents."""
    points = model.points(model.box)
    pairs = state_pairs(len(latents), seed)
    means, deviations, patterns = [], [], []
    for weights in _attention(model, points, torch.as_tensor(np.asarray(latents, dtype=np.float32))):
        means.append(weights.mean(dim=0))
        deviations.append(weights.std(dim=0, correction=0))
        patterns.append((weights[pairs[:, 0]] - weights[pairs[:, 1]]).square().sum(dim=2).T)
    joined = [torch.cat(parts).cpu().numpy() for parts in (means, deviations, patterns)]
    return AttentionOverStates(points.voxels.cpu().numpy(), *joined)


def state_pairs(states: int, seed: int = 0) -> Int[np.ndarray, "q 2"]:
    """Pairs of different states, drawn at random."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, states, PAIRS)
    return np.stack([first, (first + rng.integers(1, max(states, 2), PAIRS)) % states], axis=1)


def _attention(
    model: ConformationModel, points: DecodedPoints, latents: Float[Tensor, "s k"]
) -> Iterator[Float[Tensor, "s c n"]]:
    """Weights of all states at some points after another: all at once would not fit for a large box."""
    network = model.network
    features = network.spatial_features(points.encoding)
    queries = network.queries(network.deformation(latents.to(features.device)))
    each = len(latents) * queries.shape[1]
    if network.config.spatial_attention == "token":
        each *= queries.shape[1]
    for some in features.split(max(CHUNK_ELEMENTS // each, 1)):
        yield network.attention(some, queries)

r"""From queries and spatial features to density, at every point (paper 3.5, "Spatial Density Estimation").

Three heads with one interface, chosen by the configuration:

* :class:`PointHead`: F_S(x) attends to the queries (our reading, the default);
* :class:`TokenHead`: the queries attend to N tokens of F_S(x) (the paper's shapes taken literally; slow);
* :class:`ConcatenateHead`: no attention, F_S(x) beside a summary of F_D into an MLP (table 1, "w/o transformer").

All take phi(x) of :mod:`cryoformer.model.spatial_features` and hold the tiny MLP's output layer A, F_S = phi A.

How they start decides whether a latent ever comes to matter. Where attention is nearly the same everywhere, latents
shift the density as a whole, which no data ask for, and their effect dies before it can become local. So

* A's row for the constant begins where F_S averages to zero over space: what differs from place to place leads;
* the logits begin with a spread of about ``INITIAL_LOGITS`` over space;
* the output layer begins at ordinary size: at a tenth of it conditioning comes some four times later.

Measured in docs/model.md.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cryoformer.model.model_config import ModelConfig
from cryoformer.model.spatial_attention import (
    Method,
    attention_maps,
    key_scale,
    point_density,
    token_attention_maps,
    token_density,
)

# Standard deviation of the logits over space, at the start. Halved, conditioning switches on later; doubled, the motion
# is followed less well in the end, for few points then share a query.
INITIAL_LOGITS = 0.7


def spatial_output(mean: Tensor, *shape: int) -> nn.Parameter:
    """A [width, ...]: random, and with phi A zero for phi = ``mean``."""
    weight = torch.randn(len(mean), *shape) / math.sqrt(len(mean))
    weight[-1] = -torch.tensordot(mean[:-1], weight[:-1], dims=1)
    return nn.Parameter(weight)


def output_layer(hidden: int) -> tuple[nn.Parameter, nn.Parameter]:
    """w2 [h] and b2 [] of the last layer; w2 sums to zero, so that the density's mean starts near zero."""
    w2 = torch.randn(hidden) / math.sqrt(hidden)
    return nn.Parameter(w2 - w2.mean() if hidden > 1 else w2), nn.Parameter(torch.zeros(()))


def log_sharpness(spread: float) -> nn.Parameter:
    """log g for logits of standard deviation INITIAL_LOGITS where phi's is ``spread``.

    F_S A deviates as phi does; keys are a default linear layer, of variance 1/3, of normalised queries.
    """
    return nn.Parameter(torch.tensor(math.log(INITIAL_LOGITS * math.sqrt(3.0) / max(spread, 1e-6))))


class PointHead(nn.Module):
    """sigma = w2 . ReLU(sum_n softmax_n(g F_S(x) . k_n / sqrt(C)) v_n + F_S(x) W_s + b1) + b2.

    k_n and v_n are linear in query n; v_n holds value projection and first feed-forward layer in one. g, learnable,
    sets how sharply attention tells places apart. W_s (``spatial_residual``) gives density that no conformation changes
    a way past the queries. ``mean`` and ``spread`` are those of phi at the start
    (:meth:`~cryoformer.model.spatial_features.SpatialFeatures.mean_and_spread`); all three heads take them.
    """

    def __init__(self, config: ModelConfig, mean: Float[Tensor, " f"], spread: float) -> None:
        super().__init__()
        channels, hidden = config.channels, config.density_hidden
        self.spatial_output = spatial_output(mean, channels)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, hidden, bias=False)
        self.log_sharpness = log_sharpness(spread)
        self.residual_weight: nn.Parameter | None = None
        if config.spatial_residual:
            self.residual_weight = nn.Parameter(torch.randn(channels, hidden) / math.sqrt(channels))
        self.residual_bias = nn.Parameter(torch.zeros(hidden))
        self.w2, self.b2 = output_layer(hidden)
        self.method: Method = "auto"

    def feature_volume(self, features: Float[Tensor, "p f"]) -> Float[Tensor, "p c"]:
        """F_S(x) itself [p, C]."""
        return features @ self.spatial_output

    def keys(self, queries: Float[Tensor, "b n c"]) -> Float[Tensor, "b n f"]:
        """Keys that meet phi(x) as k_n meets F_S(x) = phi A: k_n A^T, with all factors of the logits."""
        factor = self.log_sharpness.exp() * key_scale(queries.shape[-1])
        return (self.key(queries) @ self.spatial_output.t()) * factor

    def residual(self, features: Float[Tensor, "p f"]) -> Float[Tensor, "p h"]:
        """What enters the hidden layer whatever the image: F_S(x) W_s + b1."""
        if self.residual_weight is None:
            return self.residual_bias.expand(len(features), -1)
        return features @ (self.spatial_output @ self.residual_weight) + self.residual_bias

    def forward(self, features: Float[Tensor, "p f"], queries: Float[Tensor, "b n c"]) -> Float[Tensor, "b p"]:
        """Density [b, p]."""
        keys, values = self.keys(queries), self.value(queries)
        return point_density(
            features, keys, values, self.residual(features), self.w2, self.b2, scale=1.0, method=self.method
        )

    def attention(self, features: Float[Tensor, "p f"], queries: Float[Tensor, "b n c"]) -> Float[Tensor, "b p n"]:
        """3D attention maps (figure 8): the weight of each query at each point."""
        return attention_maps(features, self.keys(queries), scale=1.0)


class TokenHead(nn.Module):
    """sigma = mean over queries of w2 . ReLU(Attention(Q, F_S(x), Q) + b1) + b2 with N tokens F_S(x) of C channels."""

    def __init__(self, config: ModelConfig, mean: Float[Tensor, " f"], spread: float) -> None:
        super().__init__()
        channels, hidden = config.channels, config.density_hidden
        self.to_tokens = spatial_output(mean, config.queries, channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, hidden, bias=False)
        self.log_sharpness = log_sharpness(spread)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.w2, self.b2 = output_layer(hidden)

    def _projected(self, queries: Tensor) -> Tensor:
        projected: Tensor = self.query(queries) * (self.log_sharpness.exp() * key_scale(queries.shape[-1]))
        return projected

    def forward(self, features: Float[Tensor, "p f"], queries: Float[Tensor, "b n c"]) -> Float[Tensor, "b p"]:
        """Density [b, p]; some N times slower than :class:`PointHead`."""
        projected, values = self._projected(queries), self.value(queries)
        return token_density(features, self.to_tokens, projected, values, self.bias, self.w2, self.b2, scale=1.0)

    def attention(self, features: Float[Tensor, "p f"], queries: Float[Tensor, "b n c"]) -> Float[Tensor, "b p n"]:
        """Weight that each query's values get at each point, averaged over the queries that ask."""
        tokens = torch.einsum("pf,fnc->pnc", features, self.to_tokens)
        return token_attention_maps(tokens, self._projected(queries), scale=1.0).mean(dim=2)


class ConcatenateHead(nn.Module):
    """sigma = w2 . ReLU([F_S(x), s] W_1 + b1) + b2 with s the mean token of F_D: no queries, no attention (table 1)."""

    def __init__(self, config: ModelConfig, mean: Float[Tensor, " f"], spread: float) -> None:
        super().__init__()
        channels, hidden = config.channels, config.density_hidden
        self.spatial_output = spatial_output(mean, channels)
        self.spatial_weight = nn.Parameter(torch.randn(channels, hidden) / math.sqrt(channels))
        self.first = nn.Linear(channels, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.w2, self.b2 = output_layer(hidden)

    def forward(self, features: Float[Tensor, "p f"], queries: Float[Tensor, "b n c"]) -> Float[Tensor, "b p"]:
        """Density [b, p]; ``queries`` is F_D, of which the mean token counts."""
        spatial = features @ (self.spatial_output @ self.spatial_weight)
        hidden = torch.relu(spatial + self.first(queries.mean(dim=1))[:, None])
        return torch.relu(self.second(hidden)) @ self.w2 + self.b2

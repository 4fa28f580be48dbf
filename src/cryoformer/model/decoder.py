r"""Query-based deformation transformer decoder (paper 3.5): structure queries meet F_D, once per image.

    Q <- Q0 + s F_D                                            s: ``injection``; 0 is the paper's decoder
    Q <- Q + SelfAttention(LN Q)                               three blocks of these
    Q <- Q + Attention(LN Q, LN F_D, values)
    Q <- Q + FFN(LN Q)
    Q <- LN Q

with Attention(Q, K, V) = softmax(Q K^T / sqrt(C)) V (eq. 3) and learned projections of query, key, value and output.

The paper writes Attention(Q, F_D, Q) for the second line: the image weighs how the queries are mixed, but nothing of
F_D enters what is mixed. ``values`` chooses: "queries" is that; "deformation" takes the values from F_D; "both", the
default, adds the two. Like the injection, it gives F_D a way to the queries that no attention weight can
close: measured, conditioning switches on an epoch or two earlier with it.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cryoformer.model.model_config import CrossAttentionValues


class Attention(nn.Module):
    """Scaled dot-product attention (eq. 3) with learned projections; values of several sources add."""

    def __init__(self, channels: int, heads: int = 1, value_sources: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.values = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in range(value_sources))
        self.output = nn.Linear(channels, channels)

    def forward(
        self, queries: Float[Tensor, "b n c"], keys: Float[Tensor, "b m c"], *values: Float[Tensor, "b m c"]
    ) -> Float[Tensor, "b n c"]:
        """Each query's mixture of the values, [b, n, c]."""
        value = self.values[0](values[0])
        for project, source in zip(self.values[1:], values[1:], strict=True):
            value = value + project(source)
        q, k, v = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.query(queries), self.key(keys), value)
        )
        # Spelt out: N x N once per image is nothing, and torch's fused form has no forward derivative on a CPU.
        weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1)
        output: Tensor = self.output((weights @ v).transpose(1, 2).flatten(2))
        return output


class DecoderBlock(nn.Module):
    """Self-attention among the queries, cross-attention to F_D, feed-forward network; each pre-norm and residual."""

    def __init__(self, channels: int, heads: int, expansion: int, values: CrossAttentionValues) -> None:
        super().__init__()
        self.cross_values = values
        self.norm_self, self.norm_cross = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.norm_feed_forward = nn.LayerNorm(channels)
        self.self_attention = Attention(channels, heads)
        self.cross_attention = Attention(channels, heads, value_sources=2 if values == "both" else 1)
        self.feed_forward = nn.Sequential(
            nn.Linear(channels, expansion * channels), nn.GELU(), nn.Linear(expansion * channels, channels)
        )

    def forward(self, queries: Float[Tensor, "b n c"], deformation: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Queries after one block; ``deformation`` is F_D, normalised."""
        normed = self.norm_self(queries)
        queries = queries + self.self_attention(normed, normed, normed)
        normed = self.norm_cross(queries)
        values = {"both": (normed, deformation), "queries": (normed,), "deformation": (deformation,)}
        queries = queries + self.cross_attention(normed, deformation, *values[self.cross_values])
        output: Tensor = queries + self.feed_forward(self.norm_feed_forward(queries))
        return output


class QueryDecoder(nn.Module):
    """F_D -> deformation-aware structure queries Q [b, N, C]."""

    def __init__(
        self,
        queries: int = 64,
        channels: int = 64,
        blocks: int = 3,
        heads: int = 1,
        expansion: int = 2,
        injection: float = 3.0,
        values: CrossAttentionValues = "both",
    ) -> None:
        super().__init__()
        self.injection = injection
        self.prototypes = nn.Parameter(torch.randn(queries, channels))
        self.norm_deformation = nn.LayerNorm(channels)
        self.blocks = nn.ModuleList(DecoderBlock(channels, heads, expansion, values) for _ in range(blocks))
        self.norm_queries = nn.LayerNorm(channels)

    def forward(self, deformation: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Q [b, N, C] of F_D [b, N, C]; layer-normalised."""
        normed = self.norm_deformation(deformation)
        queries = self.prototypes + self.injection * deformation
        for block in self.blocks:
            queries = block(queries, normed)
        output: Tensor = self.norm_queries(queries)
        return output

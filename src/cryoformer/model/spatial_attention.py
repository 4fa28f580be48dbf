r"""Spatial cross-attention (paper 3.5, "Spatial Density Estimation"): features of points meet an image's queries.

Point form, the default. F_S(x) is one query over the N deformation-aware keys; with the value projection and the first
layer of the feed-forward network folded into the values v_n,

    a_n(x; i) = softmax_n(scale F_S(x) . k_n(i)),   sigma(x; i) = w2 . ReLU(sum_n a_n v_n(i) + r(x)) + b2.

The weights a_n(x; i) are the 3D attention maps of the paper's figure 8. Three ways to compute it, which agree:
:func:`point_density_plain`, as written; :func:`~cryoformer.model.tiled_attention.point_density_tiled`, for a CPU;
:func:`point_density_chunked`, for an accelerator. :func:`point_density` takes the one that suits the device.

Token form, for the ablation. F_S(x) is N tokens, as the paper's shapes say literally, and Attention(Q, F_S, Q) an N x N
attention at every point: some N times the work, which at the paper's size is not affordable.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cryoformer.model.tiled_attention import point_density_tiled

Method = Literal["auto", "plain", "tiled", "chunked"]
# Elements of the hidden values [b, chunk, h] that a chunk may hold: 256 MB of float32.
CHUNK_ELEMENTS = 2**26


def attention_maps(
    features: Float[Tensor, "p c"], keys: Float[Tensor, "b n c"], scale: float | None = None
) -> Float[Tensor, "b p n"]:
    """a_n(x; i): the weight of each structure query at each point; sums to 1 over n."""
    scale = features.shape[1] ** -0.5 if scale is None else scale
    return torch.softmax(torch.matmul(features, keys.transpose(1, 2)) * scale, dim=-1)


def point_density_plain(
    features: Float[Tensor, "p c"],
    keys: Float[Tensor, "b n c"],
    values: Float[Tensor, "b n h"],
    residual: Float[Tensor, "p h"],
    w2: Float[Tensor, " h"],
    b2: Float[Tensor, ""],
    scale: float | None = None,
) -> Float[Tensor, "b p"]:
    """Density [b, p] as the equation above has it; ``scale`` defaults to 1 / sqrt(c). The twin to test others against.

    Made of plain operations: second derivatives and torch.func transforms work. Memory: b p (n + h) numbers, and more
    with gradients.
    """
    hidden = torch.relu(attention_maps(features, keys, scale) @ values + residual)
    return torch.matmul(hidden, w2) + b2


def point_density_chunked(
    features: Float[Tensor, "p c"],
    keys: Float[Tensor, "b n c"],
    values: Float[Tensor, "b n h"],
    residual: Float[Tensor, "p h"],
    w2: Float[Tensor, " h"],
    b2: Float[Tensor, ""],
    scale: float | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> Float[Tensor, "b p"]:
    """The same with torch's fused attention, some points at a time, each chunk recomputed in the backward pass.

    Channels are padded with zeros to a multiple of eight, which the fused kernels ask for; ``scale`` is that of the
    channels given.
    """
    scale = features.shape[1] ** -0.5 if scale is None else scale
    pad = -features.shape[1] % 8
    features = torch.nn.functional.pad(features, (0, pad))
    keys = torch.nn.functional.pad(keys, (0, pad))
    chunk = max(1, chunk_elements // (len(keys) * max(values.shape[1:])))

    def density(features: Tensor, residual: Tensor) -> Tensor:
        queries = features.expand(len(keys), 1, -1, -1)
        mixed = torch.nn.functional.scaled_dot_product_attention(queries, keys[:, None], values[:, None], scale=scale)
        return torch.relu(mixed[:, 0] + residual) @ w2 + b2

    pieces = list(zip(features.split(chunk), residual.split(chunk), strict=True))
    if len(pieces) == 1 or not torch.is_grad_enabled():
        return torch.cat([density(*piece) for piece in pieces], dim=1)
    return torch.cat([checkpoint(density, *piece, use_reentrant=False) for piece in pieces], dim=1)


def point_density(
    features: Float[Tensor, "p c"],
    keys: Float[Tensor, "b n c"],
    values: Float[Tensor, "b n h"],
    residual: Float[Tensor, "p h"],
    w2: Float[Tensor, " h"],
    b2: Float[Tensor, ""],
    scale: float | None = None,
    method: Method = "auto",
) -> Float[Tensor, "b p"]:
    """Density [b, p] by ``method``; "auto": tiled on a CPU, chunked elsewhere."""
    if method == "auto":
        method = "tiled" if features.device.type == "cpu" else "chunked"
    compute = {"plain": point_density_plain, "tiled": point_density_tiled, "chunked": point_density_chunked}[method]
    return compute(features, keys, values, residual, w2, b2, scale)


def token_attention_maps(
    tokens: Float[Tensor, "p n c"], queries: Float[Tensor, "b m c"], scale: float | None = None
) -> Float[Tensor, "b p m n"]:
    """Weights of the literal form: every structure query m over the N tokens of F_S(x), at every point."""
    scale = tokens.shape[2] ** -0.5 if scale is None else scale
    return torch.softmax(torch.einsum("bmc,pnc->bpmn", queries, tokens) * scale, dim=-1)


def token_density(
    features: Float[Tensor, "p f"],
    to_tokens: Float[Tensor, "f n c"],
    queries: Float[Tensor, "b n c"],
    values: Float[Tensor, "b n h"],
    bias: Float[Tensor, " h"],
    w2: Float[Tensor, " h"],
    b2: Float[Tensor, ""],
    scale: float | None = None,
    chunk_elements: int = 2**22,
) -> Float[Tensor, "b p"]:
    """Density [b, p] by Attention(Q, F_S(x), Q) with F_S(x) = features . to_tokens [N, C]; slow.

    sigma = mean_m w2 . ReLU(sum_n softmax_n(scale q_m . F_S(x)_n) v_n + bias) + b2. Some points at a time, recomputed
    in the backward pass.
    """
    images, n, hidden = values.shape
    chunk = max(1, chunk_elements // (images * n * max(n, hidden)))

    def density(features: Tensor) -> Tensor:
        tokens = torch.einsum("pf,fnc->pnc", features, to_tokens)
        weights = token_attention_maps(tokens, queries, scale)
        return torch.relu(weights @ values[:, None] + bias).mean(dim=2) @ w2 + b2

    pieces = features.split(chunk)
    if not torch.is_grad_enabled():
        return torch.cat([density(piece) for piece in pieces], dim=1)
    return torch.cat([checkpoint(density, piece, use_reentrant=False) for piece in pieces], dim=1)


def key_scale(channels: int) -> float:
    """1 / sqrt(C) of eq. 3."""
    return 1.0 / math.sqrt(channels)

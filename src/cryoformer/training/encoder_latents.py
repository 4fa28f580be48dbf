r"""Latents of a run whose encoder reads images: the leading principal components of F_D (paper figure 11).

F_D(i) is linear in the encoder's last hidden layer, F_D = W h + c with 128 numbers h, so its principal components are
those of h under the metric W^T W, exactly, however many channels F_D has. A particle's latent is its scores, each
scaled to unit variance over the particles; the decoder takes a latent z through F_D = mean + z B.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.encoders import DeformationEncoder, LinearDeformation
from cryoformer.training.encoder_inputs import ImageInputs

BATCH = 256


@dataclass(frozen=True)
class EncoderLatents:
    """What a trained image encoder is replaced by."""

    network: CryoFormer
    """The same network with :class:`LinearDeformation` in place of the image encoder."""
    latents: Float[Tensor, "n k"]
    share: float
    """Of the variance of F_D over the particles, what the latents hold."""


@torch.no_grad()
def encoder_latents(
    network: CryoFormer, images: ImageInputs, dimension: int, progress: Callable[[float], None] | None = None
) -> EncoderLatents:
    """Latents of all images, and the network that decodes them."""
    encoder = network.encoder
    assert isinstance(encoder, DeformationEncoder)
    hidden = images.part.processes.gather(torch.cat(list(_hidden(encoder, images, progress))))
    weight, bias = encoder.network.last.weight, encoder.network.last.bias
    scores, mean, basis, share = principal_components(hidden.double(), weight.double(), dimension)
    linear = LinearDeformation(scores.shape[1], encoder.queries, encoder.channels).to(weight.device)
    linear.mean.copy_((mean + bias).view_as(linear.mean))
    linear.basis.copy_(basis.view_as(linear.basis))
    decoded = copy.deepcopy(network)
    decoded.encoder = linear
    decoded.orientation = None
    decoded.config = replace(network.config, encoder="linear", latent_dimension=scores.shape[1], orientation="given")
    return EncoderLatents(decoded, scores.to(weight.dtype), share)


def principal_components(
    hidden: Float[Tensor, "n w"], weight: Float[Tensor, "f w"], dimension: int
) -> tuple[Float[Tensor, "n k"], Float[Tensor, " f"], Float[Tensor, "k f"], float]:
    """Scores of unit variance, mean, scaled components, and their share of the variance, of the rows W h.

    Fewer components than asked for where the rows span fewer.
    """
    mean = hidden.mean(dim=0)
    centred = hidden - mean
    # W = Q R: the rows W h have the same inner products as R h.
    q, r = torch.linalg.qr(weight)
    _, size, directions = torch.linalg.svd(centred @ r.T, full_matrices=False)
    deviation = size / len(hidden) ** 0.5
    kept = min(dimension, max(1, int((deviation > 1e-6 * deviation[0]).sum())))
    scores = centred @ r.T @ directions[:kept].T / deviation[:kept].clamp_min(torch.finfo(hidden.dtype).tiny)
    basis = deviation[:kept, None] * (directions[:kept] @ q.T)
    total = size.square().sum().clamp_min(torch.finfo(hidden.dtype).tiny)
    return scores, weight @ mean, basis, float(size[:kept].square().sum() / total)


def _hidden(
    encoder: DeformationEncoder, images: ImageInputs, progress: Callable[[float], None] | None
) -> Iterator[Float[Tensor, "b w"]]:
    """The encoder's last hidden layer, as its output layer sees it."""
    rows = torch.arange(images.part.start, images.part.stop, device=encoder.network.last.weight.device)
    for some in rows.split(BATCH):
        yield encoder.last_hidden(images.inputs(some))
        if progress is not None:
            progress(float(some[-1] + 1 - images.part.start) / len(rows))

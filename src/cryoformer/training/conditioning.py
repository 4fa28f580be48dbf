"""Conditioning: how much the decoded density depends on the latent; and its mean over all particles."""

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.decode.density_model import ConformationModel, DecodedPoints
from cryoformer.imaging.grids import crop_volume
from cryoformer.training.encoder_inputs import EncoderInputs

CONDITIONING_SAMPLE = 64
DECODED_AT_ONCE = 8


@torch.no_grad()
def conditioning(model: ConformationModel, points: DecodedPoints, conditions: EncoderInputs) -> float:
    """How much the decoded density varies over latents (or images), relative to its own spread over space.

    Root mean square over points of the standard deviation over latents, divided by the standard deviation over points
    of static density and network together. Zero: the decoder ignores its latents, or decodes one point, which has no
    spread.
    """
    if len(points.voxels) < 2:
        return 0.0
    rows = torch.linspace(0, len(conditions) - 1, min(CONDITIONING_SAMPLE, len(conditions))).round().long()
    # A few at a time: literal spatial attention takes gigabytes for them all.
    batches = rows.to(points.window.device).split(DECODED_AT_ONCE)
    density = torch.cat([model.decode(points, conditions.inputs_of_all(some)) for some in batches])
    static = crop_volume(model.static, points.box).reshape(-1)[points.voxels] / points.volume_ratio
    spread = (density.mean(dim=0) + static).std()
    return float(density.std(dim=0).square().mean().sqrt() / spread.clamp_min(1e-20))


@torch.no_grad()
def mean_density(
    model: ConformationModel, points: DecodedPoints, latents: Float[Tensor, "n k"], sample: int = 1024
) -> Float[Tensor, " p"]:
    """What the network adds on average over all particles."""
    rows = torch.linspace(0, len(latents) - 1, min(sample, len(latents))).round().long().to(latents.device)
    total = torch.zeros_like(points.window)
    for batch in rows.split(64):
        total += model.decode(points, latents[batch]).sum(dim=0)
    return total / len(rows)

r"""What the network has learnt that holds for images it was not trained on: the held-out images.

For held-out images with residuals R_i and predictions P_i = C_i P_i[w sigma_T(.; z_i)],

    g(s) = sum_i <R_i, P_i>_s / sum_i <P_i, P_i>_s        whitened, over the coefficients of shell s

is the factor by which the prediction should be scaled in that shell to explain them best: 1 where the network is
right, 0 where it fits noise. It is the Wiener filter of the network's density, measured. As motion is carried by low
frequencies first, g is made to fall with s (isotonic regression). The gain in log likelihood says when to stop.

Held-out images are held out of the linear subspace too, from which training starts: only their latents are read with
it. A latent is still read from the image that it is then judged by, so the gain is a little optimistic; the consensus
is of all images.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from cryoformer.decode.density_model import ConformationModel, DecodedPoints
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.fourier import half_plane_weights, radii, shells
from cryoformer.training.encoder_inputs import EncoderInputs

HELD_OUT_SHARE = 0.05
HELD_OUT_LEAST = 200
BATCH = 64


@dataclass(frozen=True)
class HeldOutFilter:
    """g per shell of the stage's box, and the log likelihood gained per held-out image over the static density."""

    gain: Float[Tensor, " s"]
    log_likelihood: float


def split_held_out(images: Int[Tensor, " n"], seed: int) -> tuple[Int[Tensor, " t"], Int[Tensor, " h"]]:
    """Rows to train on and rows held out: a twentieth, but 200 where there are at least ten times as many.

    Args:
        images: which image each row shows (:attr:`.Shard.images`); all rows of one are on one side.
        seed: of the draw.
    """
    images = images.cpu()
    count = int(images.max()) + 1
    held = max(round(HELD_OUT_SHARE * count), min(HELD_OUT_LEAST, count // 10))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + 1))
    held_out = torch.isin(images, order[:held])
    return (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]


@torch.no_grad()
def held_out_filter(
    model: ConformationModel,
    points: DecodedPoints,
    residuals: Images,
    conditions: EncoderInputs,
    rows: Int[Tensor, " h"],
    most: int = BATCH,
) -> HeldOutFilter:
    """g and the likelihood gain on the held-out ``rows`` of all residuals, at most so many decoded at a time.

    The model's own filter must be 1, as it is in training.
    """
    box, device, part = residuals.box, residuals.device, residuals.part
    inside = radii(box, device) <= box // 2 - 1
    weights = half_plane_weights(box, device) * inside / residuals.noise_deviation().square()
    match, power = (torch.zeros_like(weights) for _ in range(2))
    for some, batch in residuals.batches(part.here(rows).split(min(BATCH, most))):
        predicted = model.predict(points, conditions.inputs(some + part.start), batch)
        match += (batch.coefficients * predicted.conj()).real.sum(dim=0) * weights
        power += predicted.abs().square().sum(dim=0) * weights
    part.processes.add(match)
    part.processes.add(power)
    shell = shells(box, device).clamp(max=box // 2).reshape(-1)
    cross, own = (torch.zeros(box // 2 + 1, device=device).index_add_(0, shell, x.reshape(-1))
                  for x in (match, power))  # fmt: skip
    # The whole plane counts every pair twice: log p = -|.|^2 / s^2 summed over half of it.
    likelihood = float((2 * cross - own).sum()) / 2 / max(len(rows), 1)
    return HeldOutFilter(_falling(cross, own), likelihood)


def _falling(cross: Float[Tensor, " s"], own: Float[Tensor, " s"]) -> Float[Tensor, " s"]:
    """cross / own as the best non-increasing function with values from 0 to 1, each shell weighted by its power."""
    known = (own > 0).cpu().numpy()
    if not known.any():
        return torch.zeros_like(own)
    shell = torch.arange(len(own)).numpy()
    ratio = (cross / own.clamp_min(torch.finfo(own.dtype).tiny)).cpu().numpy()
    fit = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=False, out_of_bounds="clip")
    fit.fit(shell[known], ratio[known], sample_weight=own.cpu().numpy()[known])
    return torch.as_tensor(fit.predict(shell), dtype=own.dtype, device=own.device)

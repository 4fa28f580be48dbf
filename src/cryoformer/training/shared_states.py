r"""Images whose latents lie close together share one decoded density: the cost of the decoder is paid per state.

The latent of an image is known to within its posterior covariance S_i, often half as wide as the latents of all
particles. Images whose latents differ by a fraction of that may be trained on one state, the mean of their latents, and
nothing that the data know is lost: only the sum of their gradients reaches the decoder. The states are drawn anew for
every epoch, by halving the particles along random orthogonal directions until about ``size`` images share each.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Mean square distance from an image's latent to that of its state, at most, in units of the posterior variance.
LARGEST_SPREAD = 0.1
MOST_IMAGES_PER_STATE = 16


@dataclass(frozen=True)
class SharedStates:
    """A partition of n images.

    Attributes:
        of_image: number of the state of every image.
        centres: mean latent of every state.
    """

    of_image: Int[Tensor, " n"]
    centres: Float[Tensor, "s k"]


def draw_shared_states(latents: Float[Tensor, "n k"], size: int, generator: torch.Generator) -> SharedStates:
    """States of about ``size`` neighbouring images: a power of two of equal groups (each image its own for size 1)."""
    count = len(latents)
    if size == 1:
        return SharedStates(torch.arange(count, device=latents.device), latents)
    levels = max(0, round(math.log2(count / size)))
    axes = torch.linalg.qr(torch.randn(latents.shape[1], latents.shape[1], generator=generator))[0]
    turned = latents @ axes.to(latents)
    state = torch.zeros(count, dtype=torch.long, device=latents.device)
    for level in range(levels):
        order = turned[:, level % turned.shape[1]].argsort()
        order = order[state[order].argsort(stable=True)]
        members = torch.bincount(state, minlength=2**level)
        rank = torch.empty_like(state)
        rank[order] = torch.arange(count, device=state.device) - (members.cumsum(0) - members)[state[order]]
        state = 2 * state + (rank >= members[state] // 2)
    return SharedStates(state, means(latents, state, 2**levels))


def means(values: Float[Tensor, "n k"], state: Int[Tensor, " n"], count: int) -> Float[Tensor, "s k"]:
    """Mean of the values in every state."""
    members = torch.bincount(state, minlength=count).clamp_min(1)
    return values.new_zeros(count, values.shape[1]).index_add_(0, state, values) / members[:, None]


def most_images_per_state(
    latents: Float[Tensor, "n k"], covariance: Float[Tensor, "n k k"], most: int = MOST_IMAGES_PER_STATE, seed: int = 0
) -> int:
    """The largest power of two, up to ``most``, at which images of a state differ little beside their posteriors."""
    known = float(covariance.diagonal(dim1=1, dim2=2).mean(dim=0).sum())
    size = 1
    while 2 * size <= most:
        states = draw_shared_states(latents, 2 * size, torch.Generator().manual_seed(seed))
        spread = float((latents - states.centres[states.of_image]).square().mean(dim=0).sum())
        if spread > LARGEST_SPREAD * known:
            break
        size *= 2
    return size

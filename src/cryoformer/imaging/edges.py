"""Edges of images: a Fourier transform takes an image to go on at its opposite side, where it jumps.

A jump has power at all frequencies. White noise has as much of its own everywhere; but where images were smoothed, or
hold strong gradients, jumps outweigh noise and signal of whole shells, and two images of one micrograph, or one used in
either half, may even have them in common. Images that end softly have none: they are multiplied by a window that falls
to 0 towards the edge. What the CTF spreads that far is lost with it, so images without such jumps are left as they are.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.imaging.fourier import images_to_fourier, radial_mean

SOFT_EDGE = 0.12  # of the box, on either side
# Jumps matter where a shell holds this many times the power that it holds without them.
OUTWEIGHED = 2.0


def soft_edges(box: int, width: float = SOFT_EDGE) -> Float[Tensor, "d d"]:
    """A window that leaves images as they are but for their edges, over this share of the box on either side."""
    x = (torch.arange(box) - box // 2).float().abs()
    edge = torch.sin(torch.pi / 2 * ((box // 2 - x) / (width * box)).clamp(0, 1)).square()
    return torch.outer(edge, edge)


def power_kept(box: int) -> float:
    """The share of the power of noise that images with soft edges still have."""
    return float(soft_edges(box).square().mean())


def edge_jumps(images: Float[Tensor, "b d d"]) -> tuple[float, int]:
    """How many times the power that a shell has without jumps it has with them, where that is most; and that shell."""
    box = images.shape[-1]
    as_they_are, soft = (_power(each) for each in (images, images * soft_edges(box)))
    # The mean is no matter of edges, and a whole image has nothing of its own beyond the last shell.
    ratio = (as_they_are * power_kept(box) / soft.clamp_min(torch.finfo(soft.dtype).tiny))[1:-1]
    worst = int(ratio.argmax())
    return float(ratio[worst]), worst + 1


def _power(images: Float[Tensor, "b d d"]) -> Float[Tensor, " s"]:
    return radial_mean(images_to_fourier(images).abs().square().mean(dim=0), images.shape[-1])

"""The paper's own renderer, kept as the oracle of the fast one: rotate the D^3 grid, evaluate, sum along z."""

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.imaging.grids import grid_points


def project_volume_reference(
    volume: Float[Tensor, "d d d"],
    rotation: Float[Tensor, "3 3"],
    shift_angstrom: Float[Tensor, " 2"],
    pixel_size_angstrom: float,
) -> Float[Tensor, "d d"]:
    """Projection of a volume [z, y, x] (paper eq. 1): sum over z of sigma(R^T (x - t)), trilinear, zero outside.

    The shift is where the content sits, so it is taken off the image coordinate before turning back.
    """
    box = volume.shape[-1]
    image_points = grid_points(box, pixel_size_angstrom).to(volume)
    image_points[:, :2] -= shift_angstrom
    volume_points = image_points @ rotation  # rows times R = R^T applied to each point
    index = volume_points / pixel_size_angstrom + box // 2
    sampled = torch.nn.functional.grid_sample(
        volume[None, None], (index * (2.0 / (box - 1)) - 1.0)[None, None, None], align_corners=True
    )
    return sampled.reshape(box, box, box).sum(dim=0)

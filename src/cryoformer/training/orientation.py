r"""The paper's orientation encoder (sections 3.4 and E): pre-trained on the poses given, then trained with all else.

    mean_i |R(Y_i) - R_i|^2 + |t(Y_i) / a|^2,   a the pixel size

is what it learns first, until that falls no more: R_i is the rotation given, and the shift given has been taken out of
the image already, so that none is left. From images whose poses are far off it learns what their mean says. Images of
:class:`.ImageInputs` are what it reads.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.errors import InputError
from cryoformer.images.fourier_images import FourierImages, Images
from cryoformer.model.encoders import OrientationEncoder
from cryoformer.poses.global_search import at
from cryoformer.training.encoder_inputs import ImageInputs

BATCH, RATE = 64, 1e-3
# Converged: so many epochs did not bring the error below this share of the least before. And epochs at most.
PATIENCE, ENOUGH, MOST_EPOCHS = 10, 0.99, 100
READ_BATCH = 1024


@dataclass(frozen=True)
class ReadPoses:
    """What the encoder says of all images: R, and the shift relative to those given, in Angstrom."""

    rotations: Float[Tensor, "n 3 3"]
    shifts: Float[Tensor, "n 2"]

    def applied(self, images: Images) -> FourierImages:
        """The images at these poses.

        Raises:
            InputError: they are not in memory.
        """
        return at(in_memory(images), self.rotations, self.shifts)


def in_memory(images: Images) -> FourierImages:
    """These images.

    Raises:
        InputError: they are read from disk as they are used.
    """
    if not isinstance(images, FourierImages):
        raise InputError(
            "setting model.orientation: 'encoder' needs images that fit into the memory set aside for them: give more "
            "by --memory-gib"
        )
    return images


def pretrain(
    encoder: OrientationEncoder,
    inputs: ImageInputs,
    images: Images,
    seed: int,
    progress: Callable[[float, str], None] = lambda share, said: None,
) -> tuple[int, float]:
    """Learn the poses given; epochs until convergence, and the mean error of the last, in units of the above."""
    optimizer = torch.optim.Adam(encoder.parameters(), lr=RATE)
    generator, errors = torch.Generator().manual_seed(seed + 6), list[float]()
    while len(errors) < MOST_EPOCHS and not _converged(errors):
        total = 0.0
        for rows in torch.randperm(len(images), generator=generator).to(images.device).split(BATCH):
            rotations, shifts = encoder(inputs.inputs(rows))
            off = (rotations - images.rotations[rows]).square().sum(dim=(1, 2))
            loss = (off + (shifts / images.pixel_size_angstrom).square().sum(dim=1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += len(rows) * float(loss.detach())
        errors.append(total / len(images))
        progress(len(errors) / MOST_EPOCHS, f"epoch {len(errors)}, error {errors[-1]:.3f}")
    return len(errors), errors[-1]


def _converged(errors: list[float]) -> bool:
    return len(errors) > PATIENCE and min(errors[-PATIENCE:]) > ENOUGH * min(errors[:-PATIENCE])


@torch.no_grad()
def read_poses(encoder: OrientationEncoder, inputs: ImageInputs) -> ReadPoses:
    """The poses of all images."""
    rows = torch.arange(len(inputs), device=encoder.network.last.weight.device).split(READ_BATCH)
    found = [encoder(inputs.inputs(some)) for some in rows]
    return ReadPoses(*(torch.cat(parts) for parts in zip(*found, strict=True)))

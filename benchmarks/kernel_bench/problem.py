"""Synthetic inputs of any size: what they hold does not matter to the time, only how much of it there is."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from cryoformer.decode.density_model import ConformationModel, DecodedPoints
from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.model_config import ModelConfig

PIXEL_ANGSTROM = 2.0


@dataclass(frozen=True)
class Problem:
    """Box, points that the network decodes, images of a batch, seed."""

    box: int
    wanted_points: int
    images: int
    seed: int

    @cached_property
    def model(self) -> ConformationModel:
        """The default network at a ball of about as many voxels as points are wanted."""
        torch.manual_seed(self.seed)
        radius = (self.wanted_points / (4 / 3 * math.pi)) ** (1 / 3)
        axis = torch.arange(self.box) - self.box // 2
        ball = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < radius**2).float()
        return ConformationModel(CryoFormer(ModelConfig(), self.box), torch.zeros_like(ball), ball, PIXEL_ANGSTROM)

    @cached_property
    def points(self) -> DecodedPoints:
        return self.model.points(self.box)

    @property
    def count(self) -> int:
        """Points that there are."""
        return len(self.points.voxels)

    def latents(self, count: int) -> torch.Tensor:
        return torch.randn(count, ModelConfig().latent_dimension, generator=self._generator())

    def fourier_images(self, count: int, box: int | None = None) -> FourierImages:
        """White noise with poses and a CTF of ones and less."""
        box = box or self.box
        shape, generator = (count, box, box // 2 + 1), self._generator()
        return FourierImages(
            rotations=torch.tensor(uniform_rotations(count, self.seed), dtype=torch.float32),
            scale=torch.ones(count),
            halves=torch.arange(count) % 2,
            noise_power=torch.full((box // 2 + 1,), float(box**2)),
            pixel_size_angstrom=PIXEL_ANGSTROM * self.box / box,
            voxel_angstrom=PIXEL_ANGSTROM,
            coefficients=box * torch.randn(*shape, dtype=torch.complex64, generator=generator),
            ctf=torch.rand(*shape, generator=generator),
        )

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

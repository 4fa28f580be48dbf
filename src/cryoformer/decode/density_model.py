r"""The density of a conformation, as trained: one static density for all, and the transformer where density varies.

    sigma(x; z) = b(x) + (g * [w sigma_T(.; z)])(x)

sigma_T is the network, w a soft window over the points that it decodes, g a filter per shell, 1 while training, that
holds back what is not true of held-out images (:mod:`cryoformer.training.held_out_filter`), b the static density: the
Wiener-filtered back-projection of what the network leaves unexplained (:mod:`cryoformer.linear.consensus`). The paper
lets the network give all of sigma: that is b = 0 and a window over all occupied points.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.fourier import shells, shift_phases
from cryoformer.imaging.grids import filter_shells, grid_points, sample_volume
from cryoformer.imaging.projection import splat_project
from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.sparse_encoding import EncodingMatrix

LEAST_WINDOW = 1e-3


@dataclass
class DecodedPoints:
    """The grid points of one box that the network decodes, ready for many batches."""

    box: int
    points_angstrom: Float[Tensor, "p 3"]
    window: Float[Tensor, " p"]
    voxels: Tensor  # [p] into the flattened volume
    encoding: EncodingMatrix | Tensor
    volume_ratio: float


class AtPoints(nn.Module):
    """The network at a stage's points: tensors in, tensors out, which is all that wrappers for several devices take."""

    def __init__(self, network: CryoFormer, points: DecodedPoints) -> None:
        super().__init__()
        self.network, self.encoding = network, points.encoding

    def forward(self, inputs: Float[Tensor, "s ..."], rotations: Float[Tensor, "i 3 3"]) -> Float[Tensor, "s p"]:
        """Densities at the points, whatever the rotations."""
        density: Tensor = self.network(self.encoding, inputs)
        return density


class ConformationModel:
    """Network, static density and window at the full box, and the densities and projections they give."""

    shares_states = True
    """Whether images of one conformation can share what is decoded for it."""

    def __init__(
        self,
        network: CryoFormer,
        static: Float[Tensor, "d d d"],
        window: Float[Tensor, "d d d"],
        pixel_size_angstrom: float,
    ) -> None:
        self.network, self.static, self.window = network, static, window
        self.pixel_size_angstrom = pixel_size_angstrom
        self.gain = torch.ones(static.shape[-1] // 2 + 1, device=static.device)

    @property
    def box(self) -> int:
        return self.static.shape[-1]

    def within(self, window: Float[Tensor, "d d d"], static: Float[Tensor, "d d d"]) -> "ConformationModel":
        """The same network, with its filter, in another window and with another static density."""
        other = ConformationModel(self.network, static, window, self.pixel_size_angstrom)
        other.gain = self.gain
        return other

    def points(self, box: int) -> DecodedPoints:
        """Grid points of a coarser (or the full) box inside the window."""
        pixel_size = self.pixel_size_angstrom * self.box / box
        grid = grid_points(box, pixel_size).to(self.static.device)
        window = sample_volume(self.window, grid / self.pixel_size_angstrom)
        voxels = (window > LEAST_WINDOW).nonzero()[:, 0]
        points = grid[voxels]
        return DecodedPoints(
            box=box,
            points_angstrom=points,
            window=window[voxels],
            voxels=voxels,
            encoding=self.network.prepare_points(self._unit(points)),
            volume_ratio=(self.box / box) ** 3,
        )

    def decode(self, points: DecodedPoints, latents: Float[Tensor, "b ..."]) -> Float[Tensor, "b p"]:
        """w sigma_T at the points: what the network adds to the static density, not yet filtered.

        During training ``latents`` may be whatever the network's encoder reads.
        """
        density: Tensor = self.network(points.encoding, latents)
        return density * points.window

    def stage_network(self, points: DecodedPoints) -> nn.Module:
        """The network at these points, as training wraps it and :meth:`predict` takes it."""
        return AtPoints(self.network, points)

    def predict(
        self,
        points: DecodedPoints,
        inputs: Float[Tensor, "s ..."],
        images: FourierImages,
        network: Callable[[Tensor, Tensor], Tensor] | None = None,
        state: Int[Tensor, " i"] | None = None,
        still: Float[Tensor, " p"] | None = None,
    ) -> Complex[Tensor, "i d h"]:
        """What the network adds for these latents (or whatever its encoder reads), as the images show it.

        With an orientation encoder at the poses that this reads, else at those that the images have.

        Args:
            network: :meth:`stage_network`, perhaps wrapped for several processes.
            state: which of the inputs each image shows; None: one input an image.
            still: a density at the points that all images share, to be left out.
        """
        shifts = None
        if self.network.orientation is not None:
            rotations, shifts = self.network.orientation(inputs)
            images = replace(images, rotations=rotations)
        if network is None:
            density = self.decode(points, inputs)
        else:
            density = network(inputs, images.views()).float() * points.window
        density = density if still is None else density - still
        # Not density[state]: threads would add up its gradient in any order.
        seen = self.project(points, density if state is None else density.index_select(0, state), images)
        if shifts is None:
            return seen
        return seen * shift_phases(images.scale[:, None] * shifts, images.box, images.pixel_size_angstrom)

    def project(
        self, points: DecodedPoints, density: Float[Tensor, "b p"], images: FourierImages
    ) -> Complex[Tensor, "b d h"]:
        """What decoded densities, one per image, look like in the images, filter and CTF included."""
        half_planes = splat_project(
            density,
            points.points_angstrom,
            images.views(),
            None,
            points.box,
            images.pixel_size_angstrom,
            points.volume_ratio,
        )
        gain = self.gain[shells(points.box, half_planes.device).clamp(max=points.box // 2)]
        return images.ctf * gain * half_planes

    def added(self, points: DecodedPoints, density: Float[Tensor, "b p"]) -> Float[Tensor, "b d d d"]:
        """Volumes of the points' box that decoded densities add to the static one, filtered."""
        volumes = density.new_zeros(len(density), points.box**3)
        volumes[:, points.voxels] = density
        return filter_shells(volumes.view(-1, *(points.box,) * 3), self.gain[: points.box // 2 + 1])

    def volumes(self, latents: Float[Tensor, "m k"], batch: int = 8) -> Iterator[Float[np.ndarray, "d d d"]]:
        """Densities [z, y, x] of latent points at the full box, a few at a time."""
        points = self.points(self.box)
        for some in latents.to(self.static.device).split(batch):
            with torch.no_grad():
                decoded = self.decode(points, some)
            for added in self.added(points, decoded):
                yield (self.static + added).cpu().numpy()

    def _unit(self, points_angstrom: Tensor) -> Tensor:
        """Points as fractions of the box, as the network takes them."""
        return points_angstrom / (self.box * self.pixel_size_angstrom) + 0.5

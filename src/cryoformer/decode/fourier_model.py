r"""The density of a conformation where the network works in the Fourier domain (``model.domain: fourier``).

    F(k; z) = B(k) + g(|k|) F_T(k; z)

An image is the central slice R^T (kx, ky, 0) inside its Nyquist circle: only those frequencies are decoded in training,
and nothing is splatted. A density is the inverse transform of all frequencies inside the Nyquist sphere. There is no
window: what is outside the molecule is the network's own affair, as in other Fourier methods.
"""

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from cryoformer.decode.density_model import ConformationModel, DecodedPoints
from cryoformer.images.fourier_images import FourierImages, SliceProjector
from cryoformer.imaging.fourier import shells
from cryoformer.imaging.grids import grid_points, half_volume_frequencies
from cryoformer.imaging.slices import SlicePlane
from cryoformer.model.fourier import FourierCryoFormer


class AtSlices(nn.Module):
    """The network at the central slices of images: tensors in, tensors out."""

    def __init__(self, network: FourierCryoFormer, box: int) -> None:
        super().__init__()
        self.network, self.box = network, box

    def forward(self, inputs: Float[Tensor, "b ..."], rotations: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b m 2"]:
        """Real and imaginary parts on the slice plane of the box."""
        frequencies = slice_frequencies(SlicePlane.of_box(self.box, rotations.device), rotations)
        return torch.view_as_real(self.network.coefficients(frequencies, inputs))


class FourierConformationModel(ConformationModel):
    """As :class:`ConformationModel`; ``decode`` gives the density of every voxel."""

    network: FourierCryoFormer
    shares_states = False  # no two images show the same frequencies

    def points(self, box: int) -> DecodedPoints:
        """All voxels of a coarser (or the full) box; ``encoding`` holds the frequencies [p, 3] of its half volume."""
        device = self.static.device
        kz, ky, kx = half_volume_frequencies(box, device=device)
        return DecodedPoints(
            box=box,
            points_angstrom=grid_points(box, self.pixel_size_angstrom * self.box / box).to(device),
            window=torch.ones(box**3, device=device),
            voxels=torch.arange(box**3, device=device),
            encoding=torch.stack(torch.broadcast_tensors(kx, ky, kz), dim=-1).reshape(-1, 3),
            volume_ratio=(self.box / box) ** 3,
        )

    def decode(self, points: DecodedPoints, latents: Float[Tensor, "b ..."]) -> Float[Tensor, "b p"]:
        """Inverse transform of F_T inside the Nyquist sphere."""
        frequencies, box = points.encoding, points.box
        assert isinstance(frequencies, Tensor)
        inside = (frequencies.norm(dim=1) < box // 2).nonzero()[:, 0]
        half = torch.zeros(len(latents), box * box * (box // 2 + 1), dtype=torch.complex64, device=latents.device)
        half[:, inside] = self.network.coefficients(frequencies[None, inside], latents)
        volumes = torch.fft.irfftn(half.view(-1, box, box, box // 2 + 1), s=(box,) * 3, dim=(-3, -2, -1))
        return torch.fft.fftshift(volumes, dim=(-3, -2, -1)).flatten(1) / points.volume_ratio

    def stage_network(self, points: DecodedPoints) -> nn.Module:
        """The network at the slices of images."""
        return AtSlices(self.network, points.box)

    def predict(
        self,
        points: DecodedPoints,
        inputs: Float[Tensor, "b ..."],
        images: FourierImages,
        network: Callable[[Tensor, Tensor], Tensor] | None = None,
        state: Int[Tensor, " b"] | None = None,
        still: Float[Tensor, " p"] | None = None,
    ) -> Complex[Tensor, "b d h"]:
        """F_T on the slices of the images, filter and CTF included; every image needs an input of its own."""
        assert state is None
        parts = (network or self.stage_network(points))(inputs, images.views()).float()
        plane = SlicePlane.of_box(points.box, images.device)
        half_planes = plane.put(torch.view_as_complex(parts.contiguous()))
        if still is not None:
            volume = (still * points.volume_ratio).view((points.box,) * 3)
            half_planes = half_planes - SliceProjector(volume).project(images.views())
        gain = self.gain[shells(points.box, half_planes.device).clamp(max=points.box // 2)]
        return images.ctf * gain * half_planes


def slice_frequencies(plane: SlicePlane, rotations: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b m 3"]:
    """R^T (kx, ky, 0) of every coefficient of the plane, as (kx, ky, kz) in cycles per box."""
    return plane.kx[:, None] * rotations[:, None, 0] + plane.ky[:, None] * rotations[:, None, 1]

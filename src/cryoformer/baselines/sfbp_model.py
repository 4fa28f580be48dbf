r"""The network of Sparse Fourier Backpropagation (Kimanius et al., NeurIPS 2022): image encoder and voxel-grid decoder.

    z ~ N(mu(y), diag s^2(y)),   beta = A z + c,   V(k) = a(|k|) (B(k) + sum_b beta_b W_b(k))

The encoder sees the Hartley transform of the image, multiplied by the sign of its CTF, shifted to its particle's
centre, turned back in the plane and masked. Bias B and structural bases W are complex voxels inside the Nyquist sphere
of a padded Fourier grid, in units of the data's radial amplitude a. A projection is a trilinear slice through them, so
it touches few voxels: the hand-written backward pass scatters gradients to these alone, as a sparse tensor, and the
optimiser leaves the rest as they are.
"""

from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.fourier import fourier_to_images, images_to_fourier
from cryoformer.imaging.grids import half_volume_radii, raised_cosine
from cryoformer.imaging.slices import (
    PADDING,
    SliceInterpolation,
    SlicePlane,
    fourier_from_volume,
    interpolate_slices,
    padded_shape,
    volume_from_fourier,
)

MASK_RADIUS = 0.9  # of half the box
MASK_EDGE = 0.1


class TouchedRows(torch.autograd.Function):
    """Weighted sums of 8 rows of a table [v, c] -> [n, c]; the gradient holds the rows that were read, no others."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(index, weight)
        ctx.rows = len(table)
        return torch.nn.functional.embedding_bag(index, table, per_sample_weights=weight, mode="sum")

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = outputs
        index, weight = ctx.saved_tensors
        read = torch.zeros(ctx.rows, dtype=torch.bool, device=index.device)
        read[index.reshape(-1)] = True
        touched = read.nonzero()[:, 0]
        place = torch.cumsum(read, dim=0) - 1
        values = gradient.new_zeros(len(touched), gradient.shape[1])
        for corner in range(index.shape[1]):
            values.index_add_(0, place[index[:, corner]], gradient * weight[:, corner, None])
        size = (ctx.rows, gradient.shape[1])
        return torch.sparse_coo_tensor(touched[None], values, size, check_invariants=False), None, None


class VoxelDecoder(nn.Module):
    """Bias and structural bases on the voxels of the Nyquist sphere, and slices through their sum.

    Args:
        box: image side D.
        dimension: of the latent k.
        bases: number of structural bases.
        amplitude: a per shell 0 .. D / 2.
        start: density [z, y, x] that the bias begins as, or None for nothing.
    """

    amplitude: Tensor
    voxels: Tensor
    _place: Tensor
    _scale: Tensor

    def __init__(
        self, box: int, dimension: int, bases: int, amplitude: Float[Tensor, " s"], start: Float[Tensor, "d d d"] | None
    ) -> None:
        super().__init__()
        self.box, self.bases = box, bases
        device = amplitude.device
        shell = half_volume_radii(box, PADDING, device).round().long().reshape(-1)
        # One voxel beyond the sphere, because slices at its rim are interpolated from there.
        voxels = (shell <= box // 2 + 1).nonzero()[:, 0]
        place = torch.full((len(shell),), -1, dtype=torch.long, device=device)
        place[voxels] = torch.arange(len(voxels), device=device)
        self.register_buffer("amplitude", amplitude)
        self.register_buffer("voxels", voxels, persistent=False)
        self.register_buffer("_place", place, persistent=False)
        self.register_buffer("_scale", amplitude[shell[voxels].clamp(max=box // 2)], persistent=False)
        table = torch.zeros(len(voxels), 2 * (bases + 1), device=device)
        if start is not None:
            coefficients = fourier_from_volume(start).reshape(-1)[voxels] / self._scale
            table[:, 0], table[:, bases + 1] = coefficients.real, coefficients.imag
        self.table = nn.Parameter(table)
        self.affine = nn.Linear(dimension, bases)
        self.affine.to(device)

    def weights(self, latents: Float[Tensor, "b k"]) -> Float[Tensor, "b c"]:
        """Weights of the bias, which is 1, and of the bases."""
        return torch.cat([torch.ones_like(latents[:, :1]), self.affine(latents)], dim=1)

    def slices(self, latents: Float[Tensor, "b k"], where: SliceInterpolation) -> Complex[Tensor, "b m"]:
        """Central slices of the densities of these latents, in units of the radial amplitude."""
        b, m, corners = where.index.shape
        rows = TouchedRows.apply(
            self.table, self._place[where.index.reshape(-1, corners)], where.weight.reshape(-1, corners)
        )
        by_volume = rows.view(b, m, 2, self.bases + 1)
        real, imaginary = torch.einsum("bmrc,bc->rbm", by_volume, self.weights(latents))
        return torch.complex(real, imaginary * where.conjugate)

    @torch.no_grad()
    def volume(self, latent: Float[Tensor, " k"]) -> Float[Tensor, "d d d"]:
        """The density [z, y, x] of a latent."""
        weights = self.weights(latent[None])[0]
        real, imaginary = (self.table.view(len(self.table), 2, -1) @ weights).unbind(1)
        shape = padded_shape(self.box)
        half_volume = torch.zeros(shape[0] * shape[1] * shape[2], dtype=torch.complex64, device=self.table.device)
        inside = half_volume_radii(self.box, PADDING, self.table.device).reshape(-1)[self.voxels] < self.box // 2
        half_volume[self.voxels] = torch.complex(real, imaginary) * self._scale * inside
        # These voxels are what slices interpolate, not averages of what slices brought: the window is multiplied.
        return volume_from_fourier(half_volume.view(shape), self.box) * _squared_window(self.box, self.table.device)


class ImageEncoder(nn.Module):
    """Hartley images -> mean and log variance of the latent: a linear layer, residual GELU blocks, two heads."""

    def __init__(self, inputs: int, dimension: int, width: int, layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.last = nn.Linear(width, 2 * dimension)

    def forward(self, images: Float[Tensor, "b p"]) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """Mean and log variance."""
        hidden = self.first(images)
        for block in self.blocks:
            hidden = hidden + nn.functional.gelu(block(hidden))
        mean, log_variance = self.last(hidden).chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 4.0)


class SparseFourierVAE(nn.Module):
    """Encoder and decoder, and the loss of a batch."""

    _amplitude: Tensor

    def __init__(self, decoder: VoxelDecoder, dimension: int, width: int, layers: int) -> None:
        super().__init__()
        device = decoder.table.device
        self.decoder = decoder
        self.plane = SlicePlane.of_box(decoder.box, device)
        self.encoder = ImageEncoder(2 * len(self.plane.index), dimension, width, layers).to(device)
        radius = torch.sqrt(self.plane.kx**2 + self.plane.ky**2).round().long().clamp(max=decoder.box // 2)
        self.register_buffer("_amplitude", decoder.amplitude[radius], persistent=False)

    def encode(self, images: FourierImages) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """Mean and log variance of the latents of images."""
        mean, log_variance = self.encoder(self.encoder_input(images))
        return mean, log_variance

    def encoder_input(self, images: FourierImages) -> Float[Tensor, "b p"]:
        """Hartley transform H(k) = Re F(k) - Im F(k), at k and at -k, of the image as the encoder sees it."""
        flipped = images.coefficients * torch.sign(images.ctf)
        turned = derotate(fourier_to_images(flipped, images.box), images.rotations)
        masked = self.plane.take(images_to_fourier(turned * _disc(images.box, turned.device))) / self._amplitude
        return torch.cat([masked.real - masked.imag, masked.real + masked.imag], dim=1)

    def loss(self, images: FourierImages, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mean over images of the squared error, weighted by CTF^2 / a^2, and of the KL divergence to N(0, I)."""
        mean, log_variance = self.encode(images)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        latents = mean + noise * torch.exp(0.5 * log_variance)
        where = interpolate_slices(self.plane, images.views())
        ctf = self.plane.take(images.ctf)
        residual = self.plane.take(images.coefficients) / self._amplitude - ctf * self.decoder.slices(latents, where)
        error = (ctf.square() * residual.abs().square()).sum(dim=1).mean()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        return error, divergence


def derotate(images: Float[Tensor, "b d d"], rotations: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b d d"]:
    """Images turned in the plane so that the view no longer depends on the in-plane angle psi.

    R = R_z(-psi) R_y(-tilt) R_z(-rot), and the image is brought to what R_z(psi) R would show (bilinear, zero outside).
    """
    box = images.shape[-1]
    psi = torch.atan2(rotations[:, 1, 2], -rotations[:, 0, 2])
    axis = torch.arange(box, dtype=images.dtype, device=images.device) - box // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cos, sin = torch.cos(psi)[:, None, None], torch.sin(psi)[:, None, None]
    # Content that should stand at (x, y) stands at R_z(-psi) (x, y).
    places = torch.stack([cos * x + sin * y, -sin * x + cos * y], dim=-1)
    grid = (places + box // 2) * (2.0 / (box - 1)) - 1.0
    return torch.nn.functional.grid_sample(images[:, None], grid, align_corners=True)[:, 0]


def radial_amplitude(power: Float[Tensor, " s"]) -> Float[Tensor, " s"]:
    """a per shell from the mean power of the data; shells without data count as the weakest that has some."""
    least = power[power > 0].min()
    return power.clamp_min(least).sqrt()


def _squared_window(box: int, device: torch.device) -> Float[Tensor, "d d d"]:
    """Square of what trilinear interpolation in Fourier space multiplies a volume by."""
    x = torch.sinc((torch.arange(box, device=device) - box // 2) / (PADDING * box)) ** 4
    return x[:, None, None] * x[None, :, None] * x[None, None, :]


def _disc(box: int, device: torch.device) -> Float[Tensor, "d d"]:
    axis = torch.arange(box, device=device) - box // 2
    radius = torch.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2) / (box / 2)
    return raised_cosine((radius - MASK_RADIUS) / MASK_EDGE)

r"""Least squares for q Fourier volumes at once: the closed-form step of the consensus and of the linear subspace.

Image i, whitened, is modelled as Y_i = C_i P_i sum_a w_ia V_a with known weights w_i (or their posterior moments
E[w_i], E[w_i w_i^T]). By the central slice theorem the equations decouple, up to interpolation, per voxel of the
padded Fourier volume:

    (sum_i C_i^2 E[w_i w_i^T] + diag(1 / tau^2)) V = sum_i C_i Y_i E[w_i]

For q = 1 this is Wiener-filtered back-projection; for q = k + 1 the M-step of 3D probabilistic PCA (Punjani & Fleet,
J. Struct. Biol. 2021; Gilles & Singer, PNAS 2025).
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoformer.imaging.slices import (
    PADDING,
    SliceInterpolation,
    fold_mirror_plane,
    insert_slices,
    padded_shape,
)

SOLVE_CHUNK = 2**18


def padded_radii(box: int, device: torch.device | None = None) -> Float[Tensor, "z y x"]:
    """|k| of the padded half volume in cycles per box."""
    side = PADDING * box
    k = torch.fft.fftfreq(side, d=1.0 / box, device=device)
    kx = torch.arange(side // 2 + 1, device=device) / PADDING
    return torch.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + kx[None, None] ** 2)


def shell_mean(values: Float[Tensor, "q z y x"], box: int) -> Float[Tensor, "q s"]:
    """Mean over the shells 0 .. D / 2 - 1 of values on the padded half volume."""
    shell = padded_radii(box, values.device).round().long().reshape(-1)
    inside = shell < box // 2
    count = torch.bincount(shell[inside], minlength=box // 2)
    total = values.new_zeros(len(values), box // 2)
    total.index_add_(1, shell[inside], values.reshape(len(values), -1)[:, inside])
    return total / count


class NormalEquations:
    """Accumulates and solves the equations for q volumes of one box."""

    def __init__(self, box: int, volumes: int, device: torch.device) -> None:
        self.box, self.volumes = box, volumes
        shape = padded_shape(box)
        voxels = shape[0] * shape[1] * shape[2]
        self._pairs = torch.triu_indices(volumes, volumes, device=device)
        self._right = torch.zeros(2 * volumes, voxels, device=device)
        self._left = torch.zeros(self._pairs.shape[1], voxels, device=device)

    def add(
        self,
        images: Complex[Tensor, "b m"],
        ctf: Float[Tensor, "b m"],
        weights: Float[Tensor, "b q"],
        second_moments: Float[Tensor, "b q q"],
        where: SliceInterpolation,
    ) -> None:
        """Add b whitened images (and their CTF over the noise deviation) with the moments of their weights."""
        product = images * ctf
        real, imaginary = product.real, product.imag * where.conjugate
        by_volume = weights.T[:, :, None]
        insert_slices(self._right, torch.cat([by_volume * real, by_volume * imaginary]), where)
        moments = second_moments[:, self._pairs[0], self._pairs[1]].T[:, :, None]
        insert_slices(self._left, moments * ctf.square(), where)

    def finish(self) -> None:
        """Fold the mirror plane; call once, after the last image."""
        shape, q = padded_shape(self.box), self.volumes
        fold_mirror_plane(self._right[:q].view(q, *shape), 1.0)
        fold_mirror_plane(self._right[q:].view(q, *shape), -1.0)
        fold_mirror_plane(self._left.view(-1, *shape), 1.0)

    def merged_with(self, other: "NormalEquations") -> "NormalEquations":
        """The equations of both sets of images (both finished)."""
        merged = object.__new__(NormalEquations)
        merged.box, merged.volumes, merged._pairs = self.box, self.volumes, self._pairs
        merged._right, merged._left = self._right + other._right, self._left + other._left
        return merged

    def precision(self) -> Float[Tensor, "q s"]:
        """Mean over shells of the data's own precision of every volume (the diagonal of the left-hand side)."""
        diagonal = (self._pairs[0] == self._pairs[1]).nonzero()[:, 0]
        return shell_mean(self._left[diagonal].view(self.volumes, *padded_shape(self.box)), self.box)

    def solve(self, prior_precision: Float[Tensor, "q s"]) -> tuple[Complex[Tensor, "q z y x"], Float[Tensor, "q s"]]:
        """The volumes on the padded half volume, and the posterior variance of each per shell.

        ``prior_precision`` is 1 / tau^2 of every volume per shell, on the padded grid. Outside the Nyquist sphere the
        volumes are zero.
        """
        q, shape = self.volumes, padded_shape(self.box)
        shell = padded_radii(self.box, self._left.device).round().long().reshape(-1)
        inside = (shell < self.box // 2).nonzero()[:, 0]
        volumes = torch.zeros(q, self._left.shape[1], dtype=torch.complex64, device=self._left.device)
        variance = torch.zeros(q, self._left.shape[1], device=self._left.device)
        for voxels in inside.split(SOLVE_CHUNK):
            left = self._left.new_zeros(len(voxels), q, q)
            pairs = self._left[:, voxels].T
            left[:, self._pairs[0], self._pairs[1]] = pairs
            left[:, self._pairs[1], self._pairs[0]] = pairs
            left.diagonal(dim1=1, dim2=2).add_(prior_precision[:, shell[voxels]].T)
            inverse = torch.linalg.inv(left)
            right = torch.complex(self._right[:q, voxels], self._right[q:, voxels]).T
            volumes[:, voxels] = (inverse.to(right.dtype) @ right[..., None])[..., 0].T
            variance[:, voxels] = inverse.diagonal(dim1=1, dim2=2).T
        return volumes.view(q, *shape), shell_mean(variance.view(q, *shape), self.box)

r"""Least squares for q Fourier volumes at once: the closed-form step of the consensus and of PPCA.

Image i, whitened, is modelled as Y_i = C_i P_i sum_a w_ia V_a with known weights w_i (or their posterior moments
E[w_i], E[w_i w_i^T]). By the central slice theorem the equations decouple, up to interpolation, per voxel of the
padded Fourier volume:

    (sum_i C_i^2 E[w_i w_i^T] + diag(1 / tau^2)) V = sum_i C_i Y_i E[w_i]

For q = 1 this is Wiener-filtered back-projection; for q = k + 1 the M-step of 3D probabilistic PCA (Punjani & Fleet,
J. Struct. Biol. 2021; Gilles & Singer, PNAS 2025).
"""

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryoformer.communication import ALONE, Processes
from cryoformer.imaging.grids import planes_of_shells, shell_mean_of
from cryoformer.imaging.slices import (
    PADDING,
    SliceInterpolation,
    VoxelOrder,
    add_friedel_mates,
    insert_slices,
    padded_shape,
)

# Numbers in the systems that are solved at once: with these and as many temporaries the second-level cache is full.
SOLVE_ELEMENTS = 2**18


class NormalEquations:
    """Accumulates and solves the equations for q volumes of one box; memory: q (q + 5) / 2 numbers per padded voxel."""

    def __init__(self, box: int, volumes: int, device: torch.device) -> None:
        self.box, self.volumes = box, volumes
        shape = padded_shape(box)
        voxels = shape[0] * shape[1] * shape[2]
        self._pairs = torch.triu_indices(volumes, volumes, device=device)
        # A voxel's numbers lie side by side: real parts, then imaginary parts; the upper triangle.
        self._right = torch.zeros(voxels, 2 * volumes, device=device)
        self._left = torch.zeros(voxels, self._pairs.shape[1], device=device)

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
        product.imag.mul_(where.conjugate)
        squares = ctf.square()
        if self.volumes == 1:
            insert_slices(torch.view_as_complex(self._right), product * weights, where)
            insert_slices(self._left[:, 0], squares * second_moments[:, 0], where)
            return
        order = VoxelOrder(where, len(self._left))
        order.insert(self._right[:, : self.volumes], product.real, weights)
        order.insert(self._right[:, self.volumes :], product.imag, weights)
        order.insert(self._left, squares, second_moments[:, self._pairs[0], self._pairs[1]])

    def finish(self, processes: Processes = ALONE) -> None:
        """Fold the mirror plane and add what other processes have; call once, after the last image."""
        shape, q = padded_shape(self.box), self.volumes
        right = self._right.view(*shape, 2 * q)
        add_friedel_mates(right[..., :q], 1.0)
        add_friedel_mates(right[..., q:], -1.0)
        add_friedel_mates(self._left.view(*shape, -1), 1.0)
        processes.add(self._right)
        processes.add(self._left)

    def merge(self, other: "NormalEquations") -> "NormalEquations":
        """Take in the equations of more images (both finished), which are gone then: two may not fit the memory."""
        self._right += other._right
        self._left += other._left
        other._right, other._left = other._right.new_empty(0), other._left.new_empty(0)
        return self

    def precision(self) -> Float[Tensor, "q s"]:
        """Mean over shells of the data's own precision of every volume (the diagonal of the left-hand side)."""
        diagonal = (self._pairs[0] == self._pairs[1]).nonzero()[:, 0]
        left = self._left.view(*padded_shape(self.box), -1)
        return shell_mean_of(
            lambda planes: left[planes][..., diagonal].movedim(-1, 0), self.box, PADDING, self._left.device
        )

    def solve(self, prior_precision: Float[Tensor, "q s"]) -> tuple[Complex[Tensor, "q z y x"], Float[Tensor, "q s"]]:
        """The volumes on the padded half volume, and the posterior variance of each per shell.

        ``prior_precision`` is 1 / tau^2 of every volume per shell, on the padded grid. Outside the Nyquist sphere the
        volumes are zero.
        """
        q, shape = self.volumes, padded_shape(self.box)
        volumes = torch.zeros(q, len(self._left), dtype=torch.complex64, device=self._left.device)
        # Summed as it comes: an array of its own would be as large as the volumes.
        variance = torch.zeros(q, self.box // 2, device=self._left.device)
        count = torch.zeros(self.box // 2, dtype=torch.long, device=self._left.device)
        for planes, shell in planes_of_shells(self.box, PADDING, self._left.device):
            inside = (shell < self.box // 2).nonzero()[:, 0]
            count += torch.bincount(shell[inside], minlength=self.box // 2)
            before = planes.start * shape[1] * shape[2]
            for some in inside.split(max(1, SOLVE_ELEMENTS // q**2)):
                left, right = self._systems(some + before, prior_precision[:, shell[some]])
                inverse = invert_positive(left)
                real, imaginary = right
                solved = torch.complex((inverse * real).sum(dim=1), (inverse * imaginary).sum(dim=1))
                volumes[:, some + before] = solved
                variance.index_add_(1, shell[some], inverse.diagonal().T)
        return volumes.view(q, *shape), variance / count

    def _systems(
        self, voxels: Int[Tensor, " v"], prior_precision: Float[Tensor, "q v"]
    ) -> tuple[Float[Tensor, "q q v"], Float[Tensor, "2 1 q v"]]:
        """Left-hand sides of these voxels, the prior added, and right-hand sides, real and imaginary."""
        q = self.volumes
        left = self._left.new_empty(q, q, len(voxels))
        pairs = self._left[voxels].T
        left[self._pairs[0], self._pairs[1]] = pairs
        left[self._pairs[1], self._pairs[0]] = pairs
        left.diagonal().add_(prior_precision.T)
        return left, self._right[voxels].T.view(2, 1, q, -1)


def invert_positive(systems: Float[Tensor, "q q n"]) -> Float[Tensor, "q q n"]:
    """Inverses of n symmetric positive definite matrices, in place; without a pivot search, which they do not need.

    Gauss-Jordan with the matrices as the last axis: a step is a pass over contiguous memory, not n calls for small
    matrices.
    """
    for p in range(len(systems)):
        pivot = systems[p, p].reciprocal()
        row, column = systems[p] * pivot, systems[:, p].clone()
        systems.addcmul_(column[:, None], row[None], value=-1)
        systems[:, p] = -column * pivot
        systems[p] = row
        systems[p, p] = pivot
    return systems

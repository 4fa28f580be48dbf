r"""Multi-resolution hash grid: point -> features (paper 3.3; Instant-NGP, Mueller et al., SIGGRAPH 2022).

Level l is a cubic lattice of r_l cells along each edge of the unit cube, r_l = floor(r_0 g^l), growing geometrically
from ``base_resolution`` to ``finest_resolution``. A point takes the trilinear mixture of the F features that its cell's
eight corners hold. A level whose (r + 1)^3 corners fit a table of 2^T rows has a row for each ("dense"); a finer one
shares rows by the hash

    row = (x XOR 2654435761 y XOR 805459861 z) mod 2^T.

Departures from Instant-NGP: training reuses the same points for many steps, and for them the encoding is a constant
sparse matrix (:meth:`HashGrid.encoding_matrix`), some hundred times faster on a CPU than gathering.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cryoformer.model.sparse_encoding import EncodingMatrix, apply_encoding

PRIMES = (1, 2654435761, 805459861)
CORNERS = torch.tensor([[i & 1, (i >> 1) & 1, (i >> 2) & 1] for i in range(8)])
# Far above Instant-NGP's 1e-4: attention must differ from place to place before a gradient can make a latent's effect
# local. With 0.01 conditioning comes later; with 1 the features start as noise that the density has to unlearn.
INITIAL_RANGE = 0.1


def level_resolutions(levels: int, base: int, finest: int) -> list[int]:
    """Cells along an edge for each level, geometric from ``base`` to ``finest`` (both included)."""
    if levels == 1:
        return [base]
    growth = math.log(finest / base) / (levels - 1)
    # The small addition keeps rounding from losing a cell where the result is whole, on the last level above all.
    return [math.floor(base * math.exp(growth * level) + 1e-6) for level in range(levels)]


class HashGrid(nn.Module):
    """Learnable features on nested lattices over the unit cube.

    ``table`` holds the rows of all levels, one level after the other: [rows, features].
    """

    offsets: Tensor

    def __init__(
        self,
        levels: int = 16,
        features: int = 2,
        table_log2: int = 15,
        base_resolution: int = 16,
        finest_resolution: int = 128,
    ) -> None:
        super().__init__()
        self.levels, self.features, self.table_size = levels, features, 2**table_log2
        self.resolutions = level_resolutions(levels, base_resolution, finest_resolution)
        self.dense = [(r + 1) ** 3 <= self.table_size for r in self.resolutions]
        rows = [min((r + 1) ** 3, self.table_size) for r in self.resolutions]
        self.offsets_list = [sum(rows[:level]) for level in range(levels)]
        self.table = nn.Parameter(torch.empty(sum(rows), features).uniform_(-INITIAL_RANGE, INITIAL_RANGE))

    @property
    def width(self) -> int:
        """Features per point: levels x features per level."""
        return self.levels * self.features

    def forward(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p width"]:
        """Features at ``points`` (x, y, z in [0, 1]; outside is clamped); differentiable in table and points."""
        encoded = []
        for level in range(self.levels):
            rows, weights = self._corners(points, level)
            encoded.append((self.table[rows] * weights[..., None]).sum(dim=1))
        return torch.cat(encoded, dim=1)

    def encode_fixed(self, matrix: EncodingMatrix) -> Float[Tensor, "p width"]:
        """The same features for the points of ``matrix``; differentiable in the table alone."""
        encoded: Tensor = apply_encoding(matrix, self.table).view(-1, self.width)
        return encoded

    @torch.no_grad()
    def encoding_matrix(self, points: Float[Tensor, "p 3"]) -> EncodingMatrix:
        """The matrix [p * levels, rows] that :meth:`encode_fixed` multiplies the table with, and its transpose.

        Takes about a second and 300 MB for 131,000 points; keep it for as long as the points stay.
        """
        points = points.detach()
        columns = torch.empty(len(points), self.levels, 8, dtype=torch.int32)
        values = torch.empty(len(points), self.levels, 8, dtype=self.table.dtype)
        for level in range(self.levels):
            rows, weights = self._corners(points.to(self.table.dtype), level)
            # The matrix is made on the CPU, where scipy is.
            columns[:, level], values[:, level] = rows.cpu(), weights.cpu()
        return EncodingMatrix.from_rows(columns.view(-1, 8), values.view(-1, 8), len(self.table)).to(self.table.device)

    def _corners(self, points: Float[Tensor, "p 3"], level: int) -> tuple[Int[Tensor, "p 8"], Float[Tensor, "p 8"]]:
        """Table rows of the eight corners around each point, and their trilinear weights."""
        resolution = self.resolutions[level]
        position = points.clamp(0.0, 1.0) * resolution
        cell = position.detach().floor().clamp(max=resolution - 1)
        fraction = position - cell
        low = cell.long()
        offset = self.offsets_list[level]
        # [p, 3, 2]: each axis has a lower and an upper end; eight corners combine them.
        ends = torch.stack((low, low + 1), dim=2)
        share = torch.stack((1.0 - fraction, fraction), dim=2)
        x, y, z = (CORNERS.to(points.device)[:, axis] for axis in range(3))
        weights = share[:, 0, x] * share[:, 1, y] * share[:, 2, z]
        if self.dense[level]:
            stride = resolution + 1
            rows = ends[:, 0, x] + (ends[:, 1] * stride)[:, y] + (ends[:, 2] * stride**2)[:, z]
        else:
            parts = [ends[:, axis] * PRIMES[axis] for axis in range(3)]
            rows = (parts[0][:, x] ^ parts[1][:, y] ^ parts[2][:, z]) & (self.table_size - 1)
        return rows + offset, weights

"""The hash encoding of points that stay put, as a constant sparse matrix times the table.

With one row per point and level and eight entries a row (the corners of a cell), features = M table, and the
gradient of the table is M^T times that of the features. Both M and M^T are stored in compressed rows: the transpose
is built once, for a scatter in every backward pass costs some hundred times more than a product.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class EncodingMatrix:
    """M [points * levels, table rows] and its transpose, as torch sparse CSR tensors."""

    matrix: Tensor
    transpose: Tensor

    @classmethod
    def from_rows(
        cls, columns: Int[Tensor, "rows corners"], values: Float[Tensor, "rows corners"], table_rows: int
    ) -> "EncodingMatrix":
        """From each row's columns and values. A column that comes twice in a row (corners of one hash) counts twice."""
        rows, corners = columns.shape
        index = torch.int32 if rows * corners < 2**31 else torch.int64
        starts = torch.arange(rows + 1, dtype=index) * corners
        columns, values = columns.reshape(-1).to(index), values.reshape(-1)
        # scipy transposes by counting, in linear time; sorting 17 million entries would take torch seconds.
        csr = scipy.sparse.csr_array((values.numpy(), columns.numpy(), starts.numpy()), shape=(rows, table_rows))
        csc = csr.tocsc()
        back = (torch.from_numpy(csc.indptr), torch.from_numpy(csc.indices), torch.from_numpy(csc.data))
        return cls(_csr(starts, columns, values, (rows, table_rows)), _csr(*back, (table_rows, rows)))

    def to(self, device: torch.device | str) -> "EncodingMatrix":
        """The same matrix on ``device``."""
        if self.matrix.device == torch.device(device):
            return self
        return EncodingMatrix(self.matrix.to(device), self.transpose.to(device))


def _csr(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)


class _ApplyEncoding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, matrix: EncodingMatrix) -> Tensor:
        ctx.matrix = matrix
        return matrix.matrix @ table

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.matrix.transpose @ gradient.contiguous(), None


def apply_encoding(matrix: EncodingMatrix, table: Float[Tensor, "rows f"]) -> Float[Tensor, "points_levels f"]:
    """M table, differentiable in the table (once); in full precision, whatever is around it."""
    if torch.is_autocast_enabled("cuda"):
        with torch.autocast("cuda", enabled=False):
            return _ApplyEncoding.apply(table, matrix)  # type: ignore[no-any-return]
    return _ApplyEncoding.apply(table, matrix)  # type: ignore[no-any-return]

"""Hash grid: geometry of the levels, trilinear interpolation, and the two ways to encode points."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.model.hash_grid import HashGrid, level_resolutions
from cryoformer.model.sparse_encoding import apply_encoding


def grid(**settings: int) -> HashGrid:
    torch.manual_seed(0)
    sizes = {"levels": 4, "features": 2, "table_log2": 9, "base_resolution": 4, "finest_resolution": 32} | settings
    made = HashGrid(**sizes).double()
    torch.nn.init.normal_(made.table)
    return made


def points(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(2, 20), st.integers(1, 32), st.integers(0, 200))
def test_resolutions_grow_geometrically_between_both_ends(levels: int, base: int, more: int) -> None:
    finest = base + more
    resolutions = level_resolutions(levels, base, finest)
    assert (resolutions[0], resolutions[-1], len(resolutions)) == (base, finest, levels)
    growth = (finest / base) ** (1 / (levels - 1))
    assert all(abs(r - base * growth**level) <= 1 for level, r in enumerate(resolutions))


def test_coarse_levels_have_a_row_for_every_corner_and_fine_ones_share() -> None:
    made = grid()
    assert made.resolutions == [4, 8, 16, 32]
    assert made.dense == [True, False, False, False]  # 5^3 = 125 and 9^3 = 729 corners, 512 rows
    assert len(made.table) == 125 + 3 * 512
    corners = torch.cartesian_prod(*[torch.arange(5, dtype=torch.float64) / 4] * 3)
    rows, weights = made._corners(corners, 0)
    assert len(rows[weights > 0.5].unique()) == 125
    rows, _ = made._corners(points(4000), 3)
    assert rows.min() >= 125 + 2 * 512
    assert rows.max() < len(made.table)
    assert len(rows.unique()) > 500  # the hash reaches nearly all rows


def test_a_linear_function_on_the_lattice_is_interpolated_exactly() -> None:
    made = grid(levels=1, features=3, base_resolution=7)
    x = torch.arange(8, dtype=torch.float64) / 7
    z_, y_, x_ = torch.meshgrid(x, x, x, indexing="ij")
    with torch.no_grad():
        made.table.copy_(torch.stack((x_, y_, z_), dim=-1).reshape(-1, 3))
    where = points(200)
    torch.testing.assert_close(made(where), where)
    outside = torch.tensor([[-0.5, 0.5, 1.5]], dtype=torch.float64)
    torch.testing.assert_close(made(outside), outside.clamp(0, 1))


def test_weights_are_a_partition_of_unity() -> None:
    made = grid()
    torch.nn.init.ones_(made.table)
    torch.testing.assert_close(made(points(100)), torch.ones(100, 8, dtype=torch.float64))


@pytest.mark.parametrize("level", range(4))
def test_features_are_continuous_across_cell_borders(level: int) -> None:
    made = grid()
    where = points(50)
    resolution = made.resolutions[level]
    where[:, 0] = torch.round(where[:, 0] * resolution) / resolution  # on a border of this level's cells
    step = torch.tensor([1e-9, 0.0, 0.0], dtype=torch.float64)
    difference = made(where + step) - made(where - step)
    # Slope is at most about 2 * finest resolution * the largest entry (some 4), so 2e-9 away: under 1e-6.
    assert difference.abs().max() < 1e-6


def test_matrix_and_direct_path_agree_in_values_and_gradients() -> None:
    made = grid()
    where = points(300)
    matrix = made.encoding_matrix(where)
    weight = torch.randn(300, made.width, dtype=torch.float64)
    results = []
    for encoded in (made(where), made.encode_fixed(matrix)):
        (gradient,) = torch.autograd.grad((encoded * weight).sum(), made.table)
        results.append((encoded.detach(), gradient))
    torch.testing.assert_close(results[0], results[1])
    assert results[0][1].abs().sum() > 0


def test_matrix_and_transpose_are_adjoint() -> None:
    made = grid()
    matrix = made.encoding_matrix(points(64))
    table, encoded = torch.randn_like(made.table), torch.randn(64 * 4, 2, dtype=torch.float64)
    left = ((matrix.matrix @ table) * encoded).sum()
    right = (table * (matrix.transpose @ encoded)).sum()
    torch.testing.assert_close(left.detach(), right.detach())


def test_the_encoding_function_passes_gradcheck() -> None:
    made = grid(levels=2, table_log2=5, finest_resolution=8)
    matrix = made.encoding_matrix(points(5))

    table = made.table.detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: apply_encoding(matrix, rows), (table,))


def test_gradient_of_the_points_is_right_inside_cells() -> None:
    made = grid(levels=2)
    assert torch.autograd.gradcheck(made, (points(6).requires_grad_(),))


def test_float32_matrix_matches_the_direct_path() -> None:
    made = grid().float()
    where = points(500).float()
    # Eight products of order 1 with weights that sum to 1: a few float32 roundings.
    torch.testing.assert_close(made(where), made.encode_fixed(made.encoding_matrix(where)), atol=3e-6, rtol=0)


def test_points_at_the_far_corner_stay_in_the_table() -> None:
    made = grid()
    rows, weights = made._corners(torch.ones(1, 3, dtype=torch.float64), 0)
    assert rows.max() == 124
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))

"""Cells of neighbouring latents, and what training on them computes."""

import pytest
import torch

from cryoformer.reconstruct.cells import LARGEST_SPREAD, draw_cells, largest_harmless_size


def latents(count: int, dimension: int = 3) -> torch.Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("count", "size"), [(1, 4), (7, 1), (100, 4), (1000, 8), (5, 16)])
def test_cells_are_a_partition_of_almost_equal_parts(count: int, size: int) -> None:
    cells = draw_cells(latents(count), size, torch.Generator().manual_seed(1))
    members = torch.bincount(cells.cell, minlength=len(cells.centres))
    assert members.sum() == count
    assert members.min() >= 1
    assert members.max() - members.min() <= 1 + (count % len(cells.centres) > 0)
    assert 0.7 * size - 1 <= count / len(cells.centres) <= max(1.42 * size, 1) or count < size


def test_centres_are_the_means_of_neighbours() -> None:
    z = latents(1024)
    cells = draw_cells(z, 8, torch.Generator().manual_seed(2))
    number = 17
    assert torch.allclose(cells.centres[number], z[cells.cell == number].mean(dim=0), atol=1e-6)
    inside = float((z - cells.centres[cells.cell]).square().sum(dim=1).mean())
    # 128 cells in three dimensions are about five a side: a twentieth of the variance. Random cells have all of it.
    assert inside < 0.15 * float(z.var(dim=0).sum())


def test_other_epochs_have_other_cells_and_the_same_seed_the_same() -> None:
    z = latents(256)
    first, again, other = (draw_cells(z, 4, torch.Generator().manual_seed(seed)).cell for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_cells_grow_with_the_uncertainty_of_the_latents() -> None:
    z = latents(2000)
    sizes = []
    for deviation in (0.01, 0.5, 2.0):
        covariance = (deviation**2 * torch.eye(3)).expand(len(z), -1, -1)
        size = largest_harmless_size(z, covariance)
        cells = draw_cells(z, size, torch.Generator().manual_seed(0))
        spread = float((z - cells.centres[cells.cell]).square().mean(dim=0).sum())
        assert size == 1 or spread <= LARGEST_SPREAD * 3 * deviation**2
        sizes.append(size)
    assert sizes[0] == 1
    assert sizes[0] < sizes[1] < sizes[2] <= 16

"""The normal equations of q Fourier volumes: fast sums and inverses against plain ones."""

import pytest
import torch

from cryoformer.imaging.grids import half_volume_radii, shell_mean
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.imaging.slices import (
    PADDING,
    SliceInterpolation,
    SlicePlane,
    add_friedel_mates,
    insert_slices,
    interpolate_slices,
    padded_shape,
)
from cryoformer.linear.consensus import wiener_backprojection
from cryoformer.linear.normal_equations import NormalEquations, invert_positive
from toy_images import Simulated

BOX, IMAGES = 8, 60


def voxel_sums(values: torch.Tensor, where: SliceInterpolation, sign: float) -> torch.Tensor:
    """Real values [b, m] inserted one product at a time, and folded."""
    shape = padded_shape(BOX)
    target = torch.zeros(shape[0] * shape[1] * shape[2])
    insert_slices(target, values, where)
    add_friedel_mates(target.view(*shape, 1), sign)
    return target


@pytest.mark.parametrize("volumes", [1, 3])
def test_solution_is_that_of_the_plain_equations(volumes: int) -> None:
    generator = torch.Generator().manual_seed(volumes)
    plane = SlicePlane.of_box(BOX)
    where = interpolate_slices(plane, torch.tensor(uniform_rotations(IMAGES, 1), dtype=torch.float32))
    data = torch.randn(IMAGES, len(plane.index), dtype=torch.complex64, generator=generator)
    ctf = torch.rand(IMAGES, len(plane.index), generator=generator)
    weights = torch.randn(IMAGES, volumes, generator=generator)
    moments = weights[:, :, None] * weights[:, None] + 0.1 * torch.eye(volumes)
    prior = 0.5 + torch.rand(volumes, BOX // 2, generator=generator)
    equations = NormalEquations(BOX, volumes, torch.device("cpu"))
    for some in torch.arange(IMAGES).split(25):
        part = SliceInterpolation(where.index[some], where.weight[some], where.conjugate[some])
        equations.add(data[some], ctf[some], weights[some], moments[some], part)
    equations.finish()
    found, variance = equations.solve(prior)

    shell = half_volume_radii(BOX, PADDING).round().long().reshape(-1)
    inside = shell < BOX // 2
    left = torch.stack(
        [
            torch.stack([voxel_sums(ctf**2 * moments[:, a, b, None], where, 1.0) for b in range(volumes)], dim=-1)
            for a in range(volumes)
        ],
        dim=-2,
    )[inside] + torch.diag_embed(prior[:, shell[inside]].T)
    product = data * ctf
    parts = [(product.real, 1.0), (product.imag * where.conjugate, -1.0)]
    real, imaginary = (
        torch.stack([voxel_sums(part * weights[:, a, None], where, sign) for a in range(volumes)], dim=-1)[inside]
        for part, sign in parts
    )
    expected = torch.complex(torch.linalg.solve(left, real), torch.linalg.solve(left, imaginary))
    assert torch.allclose(found.flatten(1)[:, inside].T, expected, atol=1e-4 * float(expected.abs().max()))
    assert float(found.flatten(1)[:, ~inside].abs().max()) == 0.0
    every = torch.zeros(volumes, len(shell))
    every[:, inside] = torch.linalg.inv(left).diagonal(dim1=1, dim2=2).T
    assert torch.allclose(variance, shell_mean(every.view(volumes, *padded_shape(BOX)), BOX), rtol=1e-4)


def test_inverses_without_pivots_are_as_good_as_with() -> None:
    """Systems of condition numbers up to 1e4, as voxels have where few slices and a weak prior meet."""
    generator = torch.Generator().manual_seed(0)
    vectors, _ = torch.linalg.qr(torch.randn(500, 9, 9, generator=generator, dtype=torch.float64))
    values = 10 ** (4 * torch.rand(500, 9, generator=generator, dtype=torch.float64) - 2)
    systems = vectors * values[:, None] @ vectors.mT
    exact = vectors / values[:, None] @ vectors.mT
    found = invert_positive(systems.float().permute(1, 2, 0).contiguous()).permute(2, 0, 1)
    error = (found - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    with_pivots = (torch.linalg.inv(systems.float()) - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
    # float32 leaves 6e-8 times the condition number of 1e4.
    assert float(error.max()) < 2e-3
    assert float(error.median()) < 3 * float(with_pivots.median())


def test_shell_means_leave_out_what_is_beyond_nyquist() -> None:
    radii = half_volume_radii(BOX, PADDING)
    values = torch.where(radii.round() < BOX // 2, radii.round(), 1e6)
    assert torch.allclose(shell_mean(values[None], BOX)[0], torch.arange(BOX // 2, dtype=torch.float32), rtol=1e-4)


def test_large_boxes_are_solved_the_same_in_pieces(moving: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    images = moving.images.take(torch.arange(100))
    whole = wiener_backprojection(images)
    for module in ("grids", "slices"):
        monkeypatch.setattr(f"cryoformer.imaging.{module}.MOST_VOXELS", 1)
        monkeypatch.setattr(f"cryoformer.imaging.{module}.PIECE_VOXELS", 5000)
    in_pieces = wiener_backprojection(images)
    assert torch.allclose(in_pieces.half_map_fsc, whole.half_map_fsc, atol=1e-5)
    assert (in_pieces.volume - whole.volume).abs().max() < 1e-4 * whole.volume.abs().max()

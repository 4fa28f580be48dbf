"""Central slices against the splat projector, and insertion as the exact transpose of extraction."""

import pytest
import torch
from torch_fourier_slice import extract_central_slices_rfft_3d

from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.imaging.slices import (
    PADDING,
    SlicePlane,
    VoxelOrder,
    add_friedel_mates,
    extract_slices,
    fourier_from_volume,
    insert_slices,
    interpolate_slices,
    padded_shape,
    volume_from_fourier,
)


def table(volume: torch.Tensor) -> torch.Tensor:
    coefficients = fourier_from_volume(volume).reshape(-1)
    return torch.stack([coefficients.real, coefficients.imag], dim=1)


def test_slices_are_projections(smooth_volume) -> None:
    volume = smooth_volume(32)
    rotations = torch.tensor(uniform_rotations(8, seed=4), dtype=torch.float32)
    plane = SlicePlane.of_box(32)
    slices = plane.put(extract_slices(table(volume), interpolate_slices(plane, rotations), 1)[..., 0])
    density = volume.reshape(1, -1).expand(8, -1)
    projected = splat_project(density, grid_points(32, 1.0), rotations, None, 32, 1.0)
    # Trilinear interpolation in twofold padded Fourier space is good to a few per cent.
    assert float((slices - plane.put(plane.take(projected))).norm() / projected.norm()) < 0.04


def test_put_restores_both_members_of_every_conjugate_pair() -> None:
    images = torch.randn(3, 16, 16)
    plane = SlicePlane.of_box(16)
    half_planes = torch.fft.rfft2(images)
    restored = plane.put(plane.take(half_planes))
    ky, kx = torch.fft.fftfreq(16, 1 / 16)[:, None], torch.arange(9)[None]
    inside = ky**2 + kx**2 < 64
    assert torch.allclose(restored, half_planes * inside, atol=1e-5)


@pytest.mark.parametrize("box", [15, 16])
def test_every_conjugate_pair_is_taken_once(box: int) -> None:
    """Parseval: the mean, and twice what is taken beside it, are all the power inside the Nyquist circle."""
    images = torch.randn(3, box, box, generator=torch.Generator().manual_seed(box))
    k = torch.fft.fftfreq(box, 1 / box)
    inside = k[:, None] ** 2 + k**2 < (box // 2) ** 2
    power = (torch.fft.fft2(images).abs().square() * inside).sum(dim=(1, 2))
    taken = SlicePlane.of_box(box).take(torch.fft.rfft2(images)).abs().square()
    torch.testing.assert_close(2 * taken.sum(dim=1) - images.sum(dim=(1, 2)).square(), power)


def test_slices_are_those_of_torch_fourier_slice(smooth_volume) -> None:
    """The outside oracle, of transforms with the zero frequency in the middle. Its matrices turn the slice, as R^T."""
    volume, side = smooth_volume(16), PADDING * 16
    rotations = torch.tensor(uniform_rotations(12, seed=8), dtype=torch.float32)
    plane = SlicePlane.of_box(16)
    ours = extract_slices(table(volume), interpolate_slices(plane, rotations), 1)[..., 0]
    centred = torch.fft.fftshift(fourier_from_volume(volume), dim=(0, 1))
    theirs = extract_central_slices_rfft_3d(centred, rotations.transpose(1, 2))
    kx, ky = (PADDING * k.long() for k in (plane.kx, plane.ky))
    expected = theirs[:, ky + side // 2, kx]
    inner = kx**2 + ky**2 < (side // 2 - 1) ** 2  # at the rim they do not go round to the negative frequencies
    torch.testing.assert_close(ours[:, inner], expected[:, inner], atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_both_directions_divide_the_interpolation_window_out(smooth_volume) -> None:
    """Reading slices and inserting them each blur by the trilinear window; a round trip divides it out twice."""
    volume = smooth_volume(16)
    window = torch.sinc((torch.arange(16) - 8) / 32) ** 2
    window = window[:, None, None] * window[None, :, None] * window[None, None, :]
    assert torch.allclose(volume_from_fourier(fourier_from_volume(volume), 16) * window**2, volume, atol=1e-5)


def test_corners_and_weights_mix_to_where_the_slice_runs() -> None:
    plane = SlicePlane.of_box(10)
    rotations = torch.tensor(uniform_rotations(5, seed=2), dtype=torch.float32)
    where = interpolate_slices(plane, rotations)
    side = padded_shape(10)[0]
    place = torch.stack(torch.unravel_index(where.index.long(), padded_shape(10)), dim=-1)[..., [2, 1, 0]]  # x, y, z
    expected = PADDING * (plane.kx[:, None] * rotations[:, None, 0] + plane.ky[:, None] * rotations[:, None, 1])
    expected = expected * where.conjugate[..., None]
    assert bool((expected[..., 0] >= 0).all())
    # Distances to the corners, the short way round: y and z are periodic.
    away = (place - expected[..., None, :] + side // 2) % side - side // 2
    assert float(away.abs().max()) <= 1
    assert torch.allclose((where.weight[..., None] * away).sum(dim=2), torch.zeros(()), atol=1e-5)
    assert torch.allclose(where.weight, (1 - away.abs()).prod(dim=-1), atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_insertion_is_the_transpose_of_extraction(seed: int) -> None:
    """<slices(V), Y> = <V, insert(Y)> over real and imaginary parts."""
    generator = torch.Generator().manual_seed(seed)
    plane = SlicePlane.of_box(8)
    where = interpolate_slices(plane, torch.tensor(uniform_rotations(3, seed=seed), dtype=torch.float32))
    shape = padded_shape(8)
    rows = torch.randn(shape[0] * shape[1] * shape[2], 2, generator=generator)
    data = torch.complex(*torch.randn(2, 3, len(plane.index), generator=generator).unbind(0))
    slices = extract_slices(rows, where, 1)[..., 0]
    target = torch.zeros(len(rows), dtype=torch.complex64)
    insert_slices(target, torch.complex(data.real, data.imag * where.conjugate), where)
    left = (slices.real * data.real + slices.imag * data.imag).sum()
    assert torch.allclose(left, (torch.view_as_real(target) * rows).sum(), rtol=1e-4)


def test_sums_by_voxel_are_insertions_one_by_one() -> None:
    """The fast path against its slow twin, added to what is there already and into some columns of a wider table."""
    generator = torch.Generator().manual_seed(3)
    plane = SlicePlane.of_box(12)
    where = interpolate_slices(plane, torch.tensor(uniform_rotations(7, seed=3), dtype=torch.float32))
    shape = padded_shape(12)
    fast = torch.randn(shape[0] * shape[1] * shape[2], 5, generator=generator)
    slow = fast.clone()
    values = torch.randn(7, len(plane.index), generator=generator)
    factors = torch.randn(7, 3, generator=generator)
    VoxelOrder(where, len(fast)).insert(fast[:, 2:], values, factors)
    for column in range(3):
        insert_slices(slow[:, 2 + column], values * factors[:, column, None], where)
    # Sums of at most some dozen terms near 1 in float32, in another order.
    assert torch.allclose(fast, slow, atol=1e-5)


def test_folded_plane_is_that_of_a_real_volume() -> None:
    values = torch.randn(2, *padded_shape(4), 3)
    real, imaginary = values.clone()
    add_friedel_mates(real, 1.0)
    add_friedel_mates(imaginary, -1.0)
    plane = torch.complex(real[:, :, 0], imaginary[:, :, 0])
    mirror = torch.roll(torch.flip(plane, dims=(0, 1)), shifts=(1, 1), dims=(0, 1))
    assert torch.allclose(plane, mirror.conj())


@pytest.mark.parametrize("box", [12, 15])
def test_large_volumes_are_transformed_the_same_in_pieces(box: int, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = torch.randn(box, box, box, generator=torch.Generator().manual_seed(0))
    coefficients = fourier_from_volume(volume)
    back = volume_from_fourier(coefficients, box)
    monkeypatch.setattr("cryoformer.imaging.slices.MOST_VOXELS", 1)
    monkeypatch.setattr("cryoformer.imaging.slices.PIECE_VOXELS", 3 * (2 * box) ** 2)
    in_pieces = fourier_from_volume(volume)
    assert torch.allclose(in_pieces, coefficients, atol=1e-5 * float(coefficients.abs().max()))
    assert torch.allclose(volume_from_fourier(coefficients[None], box)[0], back, atol=1e-4)

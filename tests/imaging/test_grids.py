"""Grids, shells, cropping and resampling against plain sums and fields that are known everywhere."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.errors import InputError
from cryoformer.imaging.fourier import crop_fourier, images_to_fourier
from cryoformer.imaging.grids import (
    crop_volume,
    enlarge_volume,
    filter_shells,
    grid_points,
    half_volume_radii,
    raised_cosine,
    resample_volume,
    sample_volume,
    shell_mean,
    voxel_radii,
)


@pytest.mark.parametrize("box", [6, 7])
def test_points_run_with_the_voxels_of_a_volume(box: int) -> None:
    points = grid_points(box, 2.5).reshape(box, box, box, 3)
    z, y, x = 4, 1, 5
    assert points[z, y, x].tolist() == [(x - box // 2) * 2.5, (y - box // 2) * 2.5, (z - box // 2) * 2.5]
    assert float(voxel_radii(box)[z, y, x]) == pytest.approx(float(points[z, y, x].norm()) / 2.5)


@pytest.mark.parametrize(("box", "padding"), [(8, 1), (8, 2), (7, 1), (5, 3)])
def test_radii_are_those_of_the_transforms_frequencies(box: int, padding: int) -> None:
    k = np.fft.fftfreq(padding * box) * box
    whole = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    # Columns of kx >= 0; at an even side the last of them is -Nyquist in the whole transform.
    np.testing.assert_allclose(half_volume_radii(box, padding), whole[:, :, : padding * box // 2 + 1], rtol=1e-6)


@pytest.mark.parametrize("padding", [1, 2])
def test_shell_means_count_every_coefficient_below_nyquist_once(padding: int) -> None:
    radii = half_volume_radii(8, padding)
    values = torch.rand(2, *radii.shape, generator=torch.Generator().manual_seed(0))
    expected = [[float(v[radii.round() == shell].mean()) for shell in range(4)] for v in values]
    np.testing.assert_allclose(shell_mean(values, 8), expected, rtol=1e-5)


@pytest.mark.parametrize("box", [8, 9])
def test_a_filter_multiplies_its_shells_and_goes_on_beyond_its_end(box: int) -> None:
    volumes = torch.randn(2, box, box, box, generator=torch.Generator().manual_seed(0))
    gain = torch.tensor([1.0, 0.5, 0.0, 2.0])
    k = torch.fft.fftfreq(box, 1 / box)
    shell = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt().round().long()
    before, after = (torch.fft.fftn(v, dim=(1, 2, 3)) for v in (volumes, filter_shells(volumes, gain)))
    torch.testing.assert_close(after, before * gain[shell.clamp(max=3)], atol=1e-4, rtol=1e-4)


@given(st.floats(-2, 3))
def test_raised_cosine_falls_from_one_to_zero(x: float) -> None:
    value, mirrored, later = raised_cosine(np.array([x, 1 - x, x + 0.1]))
    assert value == pytest.approx(1 - mirrored, abs=1e-12)
    assert value == pytest.approx(float(raised_cosine(torch.tensor([x]))), abs=1e-6)
    assert later <= value
    assert value == pytest.approx(1.0 if x <= 0 else 0.0 if x >= 1 else np.cos(np.pi * x / 2) ** 2, abs=1e-12)


def test_projections_of_a_cropped_volume_are_cropped_projections(smooth_volume) -> None:
    """Along every axis: the sum of voxels, the band and the origin are those of images."""
    volume = smooth_volume(24) + 0.1 * torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(1))
    small = crop_volume(volume, 16)
    for axis in range(3):
        expected = crop_fourier(images_to_fourier(volume.sum(dim=axis)), 24, 16)
        torch.testing.assert_close(images_to_fourier(small.sum(dim=axis)), expected, atol=2e-4, rtol=1e-4)


def test_what_is_enlarged_and_cropped_again_is_as_it_was(smooth_volume) -> None:
    volume = smooth_volume(24) + 0.1 * torch.randn(24, 24, 24, generator=torch.Generator().manual_seed(1))
    small = crop_volume(volume, 16)
    larger = enlarge_volume(small, 24)
    torch.testing.assert_close(crop_volume(larger, 16), small, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(larger.sum(), small.sum(), atol=1e-2, rtol=1e-4)
    # Where a volume has no more than the band of the smaller box, enlarging brings it back.
    torch.testing.assert_close(enlarge_volume(crop_volume(larger, 16), 24), larger, atol=1e-5, rtol=1e-5)
    assert enlarge_volume(small, 16) is small
    for box in (8, 23):
        with pytest.raises(InputError, match="larger"):
            enlarge_volume(small, box)


def test_the_mean_of_finer_voxels_keeps_levels_and_arrays_are_arrays(smooth_volume) -> None:
    volume = smooth_volume(24)
    assert float(crop_volume(torch.ones(24, 24, 24), 12, mean=True)[5, 5, 5]) == pytest.approx(1.0)
    torch.testing.assert_close(crop_volume(volume, 16, mean=True), crop_volume(volume, 16) * (16 / 24) ** 3)
    assert crop_volume(volume, 24) is volume
    array = crop_volume(volume.numpy(), 16)
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, crop_volume(volume, 16), atol=1e-5)


@pytest.mark.parametrize("box", [26, 7])
def test_volumes_are_not_cropped_to_odd_or_larger_boxes(box: int) -> None:
    with pytest.raises(InputError, match="even, smaller"):
        crop_volume(torch.zeros(24, 24, 24), box)


def test_a_linear_field_is_sampled_exactly_and_nothing_outside() -> None:
    slope = torch.tensor([0.3, -1.2, 0.7])
    volume = (grid_points(9, 1.0) @ slope).reshape(9, 9, 9)
    points = 7.8 * torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 3.9
    torch.testing.assert_close(sample_volume(volume, points), points @ slope, atol=1e-5, rtol=1e-5)
    assert sample_volume(volume + 5, torch.tensor([[0.0, 5.5, 0.0], [-5.5, 0.0, 0.0]])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("box", [8, 32])
def test_a_field_stays_where_it_is_in_another_box(box: int) -> None:
    def blob(points: torch.Tensor) -> torch.Tensor:
        return torch.exp(-(points - torch.tensor([2.0, -1.0, 3.0])).square().sum(dim=1) / (2 * 4.0**2))

    volume = blob(grid_points(16, 1.0)).reshape(16, 16, 16)
    found = resample_volume(volume, box).reshape(-1)
    points = grid_points(box, 16 / box)
    inside = (points.abs() < 7).all(dim=1)
    torch.testing.assert_close(found[inside], blob(points)[inside], atol=0.03, rtol=0)

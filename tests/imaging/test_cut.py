"""A density cut out of its box has the same slices, but for the phase of where it stands."""

import pytest
import roma
import torch

from cryoformer.imaging.cut import Cut
from cryoformer.imaging.slices import SlicePlane, extract_slices, fourier_from_volume, interpolate_slices
from toy_images import BOX, blob


def slices(volume: torch.Tensor, plane: SlicePlane, views: torch.Tensor) -> torch.Tensor:
    coefficients = fourier_from_volume(volume).reshape(-1)
    table = torch.stack([coefficients.real, coefficients.imag], dim=1)
    return extract_slices(table, interpolate_slices(plane, views), 1)[..., 0]


@pytest.mark.parametrize("scale", [1.0, 0.9])
def test_slices_of_a_cut_are_those_of_the_box(scale: float):
    volume = blob((20.0, -15.0, 10.0), 7.0) + 0.5 * blob((28.0, -15.0, 10.0), 5.0)
    region = volume > 1e-3
    cut = Cut.about(region)
    assert cut.side < BOX
    views = scale * roma.special_procrustes(torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0)))
    plane = SlicePlane.of_box(BOX)
    wanted = cut.centred(slices(volume * region, plane, views), plane, views)
    (small,) = cut.place(volume[region][None], region)
    found = slices(small, cut.plane(plane), views)
    assert (found - wanted).abs().square().sum() < 1e-3 * wanted.abs().square().sum()


def test_a_region_as_large_as_the_box_is_not_cut():
    region = torch.zeros(BOX, BOX, BOX, dtype=torch.bool)
    region[1:-1, 4:9, 3:7] = True
    cut = Cut.about(region)
    assert cut.side == BOX
    values = torch.rand(1, int(region.sum()))
    torch.testing.assert_close(cut.place(values, region)[0][region], values[0])

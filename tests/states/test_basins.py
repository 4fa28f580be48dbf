"""Which minima of a free energy are wells, and where one crosses between them."""

import numpy as np

from cryoformer.states.basins import Basin, Pass, basins_and_passes
from states.test_deconvolution import ALONG


def found_in(
    energy: np.ndarray, scatter: float, least_size: float, shape: tuple[int, ...]
) -> tuple[list[Basin], list[Pass]]:
    samples = energy + scatter * np.random.default_rng(0).standard_normal((400, energy.size))
    return basins_and_passes(shape, np.full(energy.size, 1 / energy.size), energy, samples, least_size)


def wells_of(energy: np.ndarray, scatter: float, least_size: float) -> list[Basin]:
    return found_in(energy, scatter, least_size, (len(energy),))[0]


def test_a_well_is_deep_sure_and_as_wide_as_the_images_can_tell() -> None:
    narrow = np.where(np.abs(ALONG - 0.25) < 0.04, 0.0, 2 * (1 - np.cos(4 * np.pi * ALONG)))
    assert len(wells_of(narrow, 0.1, 0.05)) == 4
    assert [well.place for well in wells_of(narrow, 0.1, 0.12)] == [0, 16, 31]
    waves = 1 - np.cos(4 * np.pi * ALONG)
    assert len(wells_of(waves, 0.1, 0.1)) == 3  # one in the middle, half a well at each end
    assert len(wells_of(0.4 * waves, 0.1, 0.1)) == 1  # less than 1 kT
    assert len(wells_of(waves, 2.0, 0.1)) == 1  # no more than the samples scatter


def four_wells() -> np.ndarray:
    """On a plane of 20 x 30: 1 kT deep along x, 1.4 and 2 along y, and one well a little deeper."""
    x, y = np.meshgrid(np.linspace(0, 1, 20), np.linspace(0, 1, 30), indexing="ij")
    energy = 1.0 + 0.5 * np.cos(4 * np.pi * x) + 1.0 + np.cos(4 * np.pi * y) * np.where(x > 0.5, 1.0, 0.7)
    return np.asarray(energy - 0.2 * ((x > 0.5) & (y > 0.5)))


def test_wells_of_a_plane_and_the_passes_between_them() -> None:
    wells, passes = found_in(2 * four_wells().ravel(), 0.05, 0.05, (20, 30))
    assert [divmod(well.place, 30) for well in wells] == [(5, 7), (5, 22), (14, 7), (14, 22)]
    assert sum(well.places.sum() for well in wells) == 600
    assert all(100 < well.places.sum() < 200 for well in wells)
    beside = {one.wells: divmod(one.place, 30) for one in passes}
    assert beside[0, 1][0] == 5
    assert abs(beside[0, 1][1] - 14.5) <= 1
    assert abs(beside[0, 2][0] - 9.5) <= 1


def test_wells_of_a_plane_join_over_the_lowest_pass() -> None:
    wells, passes = found_in(1.2 * four_wells().ravel(), 0.05, 0.05, (20, 30))
    assert len(wells) == 4
    wells, passes = found_in(0.9 * four_wells().ravel(), 0.05, 0.05, (20, 30))
    assert len(wells) == 2
    assert [one.wells for one in passes] == [(0, 1)]
    assert wells[1].place // 30 == 14
    assert len(found_in(0.3 * four_wells().ravel(), 0.05, 0.05, (20, 30))[0]) == 1


def test_the_same_height_everywhere_is_one_well() -> None:
    (well,), passes = found_in(np.zeros(100), 0.0, 0.01, (10, 10))
    assert well.places.all()
    assert passes == []

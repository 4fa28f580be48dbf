"""The landscape of known distributions, its uncertainty, and its shape at the edge of the data."""

import numpy as np
import pytest

from cryoformer.explore.landscape import landscape, umap_coordinates


def at(found, x: float, y: float, values: np.ndarray) -> float:
    column, row = (int(np.searchsorted(edges, place)) - 1 for edges, place in zip(found.edges, (x, y), strict=True))
    return float(values[row, column])


def test_a_gaussian_has_the_energy_of_a_parabola() -> None:
    points = np.random.default_rng(0).standard_normal((100_000, 2)) * [2.0, 1.0]
    found = landscape(points)
    # At 2 sigma: 2 kT, lowered a little by the smoothing (3 % of the width).
    assert at(found, 4.0, 0.0, found.energy) == pytest.approx(2.0, abs=0.12)
    assert at(found, 0.0, 2.0, found.energy) == pytest.approx(2.0, abs=0.12)
    assert np.nanmin(found.energy) == 0.0


def test_two_wells_differ_by_the_logarithm_of_their_populations() -> None:
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.standard_normal((27_000, 2)) * 0.3, rng.standard_normal((10_000, 2)) * 0.3 + [4, 0]])
    found = landscape(points)
    assert at(found, 4.0, 0.0, found.energy) == pytest.approx(np.log(2.7), abs=0.15)
    assert np.isnan(at(found, 2.0, 0.0, found.energy))


def test_the_uncertainty_falls_with_the_root_of_the_particles() -> None:
    rng = np.random.default_rng(2)
    few, many = (landscape(rng.standard_normal((n, 2))) for n in (2_000, 128_000))
    ratio = at(few, 1.0, 1.0, few.deviation) / at(many, 1.0, 1.0, many.deviation)
    # sqrt(64) = 8 with a fixed kernel; Scott's kernel narrows by 2, which gives 4. A bootstrap of 48 is sure to 10 %.
    assert 2.5 < ratio < 6.5


@pytest.mark.slow
def test_umap_places_all_particles_and_keeps_groups_apart() -> None:
    pytest.importorskip("umap")
    rng = np.random.default_rng(3)
    latents = np.concatenate([rng.standard_normal((150, 3)), rng.standard_normal((150, 3)) + 20.0])
    flat = umap_coordinates(latents)
    gap = np.linalg.norm(flat[:150].mean(axis=0) - flat[150:].mean(axis=0))
    assert flat.shape == (300, 2)
    assert gap > 2.0 * flat[:150].std()

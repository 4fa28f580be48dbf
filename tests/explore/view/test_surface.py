"""Isosurfaces against shapes whose surface is known."""

import numpy as np
import pytest

from assess.toy_run import blob
from cryoformer.explore.view.surface import isosurface, values_at

PIXEL = 2.0


@pytest.mark.parametrize("refine", [1, 2])
def test_a_ball_has_its_radius_and_normals_that_point_outwards(refine: int) -> None:
    radius = 4.0  # voxels; exp(-r^2 / 2 w^2) with w = 4
    surface = isosurface(blob((0, 0, 0), 4.0), float(np.exp(-0.5)), PIXEL, refine=refine)
    distance = np.linalg.norm(surface.vertices, axis=1)
    # Linear interpolation between voxels of a curved profile: some hundredths of a voxel.
    np.testing.assert_allclose(distance, radius * PIXEL, atol=0.05 * PIXEL)
    outwards = (surface.normals * surface.vertices).sum(axis=1) / distance
    assert outwards.min() > 0.95


def test_axes_are_x_y_z_from_the_box_centre() -> None:
    surface = isosurface(blob((5, -3, 2), 1.5), 0.5, PIXEL)
    np.testing.assert_allclose(surface.vertices.mean(axis=0), PIXEL * np.array([5, -3, 2]), atol=0.1)


def test_dust_is_left_out_when_asked() -> None:
    volume = blob((0, 0, 0), 3.0) + blob((9, 9, 9), 0.45)
    with_dust, without = (isosurface(volume, 0.4, PIXEL, hide_dust=hide).vertices for hide in (False, True))
    assert with_dust.max() > 8 * PIXEL
    assert without.max() < 6 * PIXEL


def test_a_surface_is_closed_where_it_meets_the_box() -> None:
    volume = blob((11, 0, 0), 3.0)
    for refine in (1, 2):
        faces = isosurface(volume, 0.5, PIXEL, refine=refine).faces
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        _, times = np.unique(edges, axis=0, return_counts=True)
        assert set(times.tolist()) == {2}


def test_refining_adds_nothing_that_is_not_there() -> None:
    """Splines overshoot at steps: a deep hole beside the part once gave a frame around it."""
    volume = blob((0, 0, 0), 2.0) - 5.0 * blob((8, 0, 0), 2.0)
    surface = isosurface(volume, 0.3, PIXEL, refine=2)
    assert np.linalg.norm(surface.vertices, axis=1).max() < 4 * PIXEL


def test_above_the_highest_density_there_is_no_surface() -> None:
    surface = isosurface(blob((0, 0, 0), 2.0), 2.0, PIXEL)
    assert surface.vertices.shape == (0, 3)
    assert surface.faces.shape == (0, 3)


def test_colours_are_taken_from_where_the_vertices_are() -> None:
    axis = np.arange(24.0) - 12
    z, _, x = np.meshgrid(axis, axis, axis, indexing="ij")
    surface = isosurface(blob((2, 1, -3), 3.0), 0.5, PIXEL)
    expected = (surface.vertices[:, 0] + 10 * surface.vertices[:, 2]) / PIXEL
    np.testing.assert_allclose(values_at(x + 10 * z, surface.vertices, PIXEL), expected, atol=1e-3)

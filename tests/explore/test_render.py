"""Surfaces: the right outline, the right hand, the right colours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from assess.toy_run import blob
from cryoformer.explore.render import Camera, project, render_surface

BOX, CENTRE = 24, np.array([12.0, 12.0, 12.0])


def camera(view: np.ndarray | None = None, half_width: float = 12.0) -> Camera:
    return Camera(np.eye(3) if view is None else view, CENTRE, half_width, 12.0)


def drawn(picture: np.ndarray) -> np.ndarray:
    return picture.astype(float).mean(axis=2) < 250


def centre_of(mask: np.ndarray) -> tuple[float, float]:
    """Row and column relative to the middle of the picture."""
    rows, columns = np.nonzero(mask)
    middle = (mask.shape[0] - 1) / 2.0
    return rows.mean() - middle, columns.mean() - middle


@given(seed=st.integers(0, 1000))
def test_a_ball_is_a_disc_of_its_radius_from_everywhere(seed: int) -> None:
    width = 5.0
    view = Rotation.random(random_state=seed).as_matrix()
    picture = render_surface(blob((0, 0, 0), width), float(np.exp(-0.5)), camera(view), size=80)
    assert drawn(picture).sum() == pytest.approx(np.pi * (width * 80 / 24) ** 2, rel=0.06)
    assert np.abs(centre_of(drawn(picture))).max() < 1.0


@pytest.mark.parametrize(
    ("point", "row", "column"), [((6, 0, 0), 0, 1), ((0, 6, 0), -1, 0), ((-6, 0, 0), 0, -1), ((0, 0, 6), 0, 0)]
)
def test_x_is_right_and_y_is_up(point: tuple[int, int, int], row: int, column: int) -> None:
    rows, columns = centre_of(drawn(render_surface(blob(point, 2.0), 0.5, camera(), size=80)))
    assert np.allclose([rows, columns], [row * 20, column * 20], atol=1.5)


def test_what_is_towards_the_viewer_hides_what_is_behind() -> None:
    # Both balls lie on the viewer's axis, at unlike heights so that a picture from behind cannot pass for one from the
    # front; the colour, at their outer faces, tells which one is seen.
    volume = blob((0, 0, 6), 2.0) + blob((0, 0, -2), 2.0)
    front, back = blob((0, 0, 8), 1.5), blob((0, 0, -4), 1.5)
    middle = slice(38, 42)

    def redness(colour_by: np.ndarray, view: np.ndarray) -> float:
        picture = render_surface(volume, 0.5, camera(view), 80, colour_by).astype(float)
        return float((picture[middle, middle, 0] - picture[middle, middle, 2]).mean())

    behind = np.diag([-1.0, 1.0, -1.0])
    assert redness(front, np.eye(3)) > 80 > 20 > redness(back, np.eye(3))
    assert redness(back, behind) > 80 > 20 > redness(front, behind)


def test_light_comes_from_the_upper_left() -> None:
    picture = render_surface(blob((0, 0, 0), 5.0), 0.5, camera(), size=80).astype(float).mean(axis=2)
    assert picture[30, 30] > picture[50, 50] + 30


def test_nothing_above_the_level_is_an_empty_page() -> None:
    assert (render_surface(np.zeros((BOX,) * 3), 0.5, camera(), size=20) == 255).all()


def test_projection_along_an_axis_is_the_sum() -> None:
    volume = blob((2, -3, 1), 2.5)
    # Pixel centres on voxel centres: half a voxel around 12 voxels each side.
    picture = project(volume, Camera(np.eye(3), np.array([11.5, 11.5, 11.5]), 12.0, 12.0), size=24)
    np.testing.assert_allclose(picture, volume.sum(axis=0)[::-1], atol=0.01 * volume.sum(axis=0).max())

"""Meshes: the right surface in few bytes, at its place in the box."""

import base64

import numpy as np
import pytest

from assess.toy_run import blob
from cryoformer.explore import mesh as module
from cryoformer.explore.mesh import STEP, surface_mesh


@pytest.mark.parametrize("box", [48, 96])
def test_a_sphere_lies_where_it_should(box: int) -> None:
    scale = box / 48
    volume = blob((4.0 * scale, -2.0 * scale, 6.0 * scale), 6.0 * scale, box)
    colour = np.zeros_like(volume)
    colour[:, :, box // 2 + int(4 * scale) :] = 1.0
    found = surface_mesh(volume, float(np.exp(-0.5)), colour)
    points = found.positions.astype(float) / STEP * 48 - 24
    radius = np.linalg.norm(points - [4.0, -2.0, 6.0], axis=1)
    np.testing.assert_allclose(radius, 6.0, atol=0.15)
    assert found.values[points[:, 0] > 6.0].min() == 255
    assert found.values[points[:, 0] < 2.0].max() == 0
    assert found.faces.max() == len(points) - 1


def test_triangles_face_outwards() -> None:
    found = surface_mesh(blob((0, 0, 0), 5.0, 32), 0.5, np.zeros((32, 32, 32)))
    a, b, c = (found.positions[found.faces[:, i]].astype(float) / STEP - 0.5 for i in range(3))
    assert ((np.cross(b - a, c - a) * (a + b + c)).sum(axis=1) > 0).mean() > 0.99


def test_a_surface_with_too_many_vertices_becomes_coarser(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = blob((0, 0, 0), 8.0, 48)
    monkeypatch.setattr(module, "MOST_VERTICES", 900)
    found = surface_mesh(volume, 0.5, np.zeros_like(volume))
    assert 100 < len(found.positions) <= 900


def test_bytes_and_empty_surfaces() -> None:
    found = surface_mesh(blob((0, 0, 0), 5.0, 32), 0.5, np.zeros((32, 32, 32)))
    assert len(base64.b64decode(found.encoded)) == 7 * len(found.positions) + 6 * len(found.faces)
    assert surface_mesh(np.zeros((16, 16, 16)), 0.5, np.zeros((16, 16, 16))).encoded == ""

"""Maps laid on one another: the rotation, the shift and the hand are found, and the views a map has alike."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryoformer.imaging.grids import grid_points
from cryoformer.poses.map_alignment import MIRROR, align_maps, self_alignments

BOX = 24
PLACES = np.array([[6.0, 0, 0], [0, 5, 1], [-4, -3, 2], [0, 1, -6]])


def blobs(places: np.ndarray, heights: tuple[float, ...] = (1.0, 1.2, 0.9, 1.1)) -> torch.Tensor:
    points = grid_points(BOX, 1.0)
    density = torch.zeros(len(points))
    for place, height in zip(places, heights, strict=True):
        density += height * torch.exp(-(points - torch.tensor(place).float()).square().sum(dim=1) / 8)
    return density.reshape(BOX, BOX, BOX)


@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_shift_and_hand_are_found(mirrored: bool) -> None:
    turn, shift = Rotation.from_rotvec([0.7, -1.1, 0.4]).as_matrix(), np.array([1.2, -0.7, 0.5])
    # V(x) = W(M R x + s): what V has at x, W has at M R x + s.
    moved = PLACES @ turn.T
    moved = (moved @ MIRROR if mirrored else moved) + shift
    found = align_maps(blobs(PLACES), blobs(moved))
    assert found.mirrored == mirrored
    assert found.correlation > 0.98
    assert np.degrees(Rotation.from_matrix(found.rotation @ turn.T).magnitude()) < 3
    np.testing.assert_allclose(found.shift, shift, atol=0.3)


def test_views_alike_of_three_arms_about_an_axis_that_misses_the_origin() -> None:
    third = Rotation.from_rotvec([0, 0, 2 * np.pi / 3]).as_matrix()
    axis, arm = np.array([1.5, -1.0, 0.0]), np.array([6.0, 0.0, 1.0])
    places = np.stack([axis + arm, axis + third @ arm, axis + third @ third @ arm, axis - np.array([0, 0, 4])])
    found = self_alignments(blobs(places, (1.0, 1.0, 1.0, 1.0)), least=0.9, most=6, known=np.eye(3)[None])
    assert len(found) == 2
    for each in found:
        # Every arm comes to lie on another one.
        moved = places @ each.rotation.T + each.shift
        distances = np.linalg.norm(moved[:, None] - places[None], axis=2).min(axis=1)
        assert distances.max() < 0.5
    assert self_alignments(blobs(PLACES, (1.0, 2.0, 0.5, 1.5)), least=0.9, most=6, known=np.eye(3)[None]) == []

"""Rotations: RELION's convention, the 6D form, and even coverage of SO(3)."""

import numpy as np
import pytest
import roma
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.imaging.rotations import euler_from_matrix, matrix_from_euler, rotation_from_6d, uniform_rotations

angle = st.floats(-180, 180)


def relion_matrix(rot: float, tilt: float, psi: float) -> np.ndarray:
    """RELION's Euler_angles2matrix, from its definition as three turns of the frame: about z, new y, new z."""
    a, b, c = np.deg2rad([rot, tilt, psi])

    def z(x: float) -> np.ndarray:
        return np.array([[np.cos(x), np.sin(x), 0], [-np.sin(x), np.cos(x), 0], [0, 0, 1]])

    y = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    return z(c) @ y @ z(a)


@given(angle, st.floats(0, 180), angle)
def test_matrix_is_relions(rot: float, tilt: float, psi: float) -> None:
    ours = matrix_from_euler(np.array([[rot, tilt, psi]]))[0]
    assert np.allclose(ours, relion_matrix(rot, tilt, psi), atol=1e-12)


@given(angle, st.floats(1, 179), angle)
def test_angles_survive_a_round_trip(rot: float, tilt: float, psi: float) -> None:
    matrix = matrix_from_euler(np.array([[rot, tilt, psi]]))
    assert np.allclose(matrix_from_euler(euler_from_matrix(matrix)), matrix, atol=1e-9)


def test_6d_form_restores_rotations_and_makes_any_numbers_one() -> None:
    rotations = torch.tensor(uniform_rotations(20, seed=0))
    six = rotations[..., :2].transpose(1, 2).reshape(20, 6)
    assert torch.allclose(rotation_from_6d(six), rotations, atol=1e-9)
    made = rotation_from_6d(torch.randn(50, 6, dtype=torch.float64))
    assert torch.allclose(made @ made.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(50, 3, 3), atol=1e-9)
    assert torch.allclose(torch.linalg.det(made), torch.ones(50, dtype=torch.float64))


def test_uniform_rotations_cover_so3() -> None:
    rotations = torch.tensor(uniform_rotations(500, seed=1))
    # No direction is preferred, and every rotation has its nearest neighbour at about the same distance.
    assert float(rotations.mean(dim=0).abs().max()) < 0.02
    distance = roma.rotmat_geodesic_distance(rotations[:, None], rotations[None])
    distance.fill_diagonal_(torch.inf)
    nearest = distance.amin(dim=1)
    random = torch.tensor(roma.random_rotmat(500).numpy())
    apart = roma.rotmat_geodesic_distance(random[:, None], random[None])
    apart.fill_diagonal_(torch.inf)
    assert float(nearest.min()) > 3 * float(apart.amin(dim=1).min())
    # As even as the paper's spiral is (0.08); with other angles it is not.
    assert float(nearest.std() / nearest.mean()) < 0.1


def test_seed_decides() -> None:
    assert np.array_equal(uniform_rotations(9, seed=4), uniform_rotations(9, seed=4))
    assert not np.allclose(uniform_rotations(9, seed=4), uniform_rotations(9, seed=5))


def test_two_seeds_share_no_view() -> None:
    """Another order of the same rotations would not be another stack."""
    one, other = (torch.tensor(uniform_rotations(200, seed=seed)) for seed in (4, 5))
    nearest = roma.rotmat_geodesic_distance(one[:, None], other[None]).amin(dim=1)
    assert float(nearest.median()) > 0.1


@pytest.mark.parametrize("count", [0, 1])
def test_few_rotations(count: int) -> None:
    assert uniform_rotations(count, seed=0).shape == (count, 3, 3)

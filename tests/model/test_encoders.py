"""Encoders: shapes, a start that keeps inputs apart, poses that begin where they should."""

import pytest
import torch

from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.model.encoders import MLP, DeformationEncoder, LinearDeformation, OrientationEncoder


@torch.no_grad()
def relative_spread(outputs: torch.Tensor) -> float:
    """Standard deviation over the batch against the root mean square."""
    return float(outputs.std(dim=0).square().mean().sqrt() / outputs.square().mean().sqrt())


def test_mlp_has_the_paper_s_shape() -> None:
    network = MLP(8, 5)
    matrices = [p for p in network.parameters() if p.ndim == 2]
    assert len(matrices) == 11  # ten hidden layers and the output
    assert all(128 in m.shape for m in matrices)


@pytest.mark.parametrize(("residual", "least"), [(True, 0.5), (False, 0.1)])
def test_depth_does_not_hide_the_input_at_the_start(residual: bool, least: float) -> None:
    torch.manual_seed(0)
    network = MLP(8, 64, residual=residual)
    spread = relative_spread(network(torch.randn(200, 8)))
    assert spread > least
    # The scale survives the depth too: neither vanishing nor exploding.
    assert 0.2 < network(torch.randn(200, 8)).std() < 5


def test_the_origin_of_latents_is_no_dead_point() -> None:
    torch.manual_seed(0)
    jacobian = torch.func.jacrev(MLP(8, 64))
    at_origin, elsewhere = (torch.linalg.matrix_norm(jacobian(z)) for z in (torch.zeros(1, 8), torch.randn(1, 8)))
    assert at_origin.sum() > 0.3 * elsewhere.sum()


def test_deformation_encoder_gives_a_token_for_each_query() -> None:
    assert DeformationEncoder(3, queries=5, channels=7)(torch.randn(4, 3)).shape == (4, 5, 7)
    images = torch.randn(2, 6, 6)
    encoder = DeformationEncoder(36, queries=5, channels=7, images=True)
    assert encoder(images).shape == (2, 5, 7)
    torch.testing.assert_close(encoder(images), encoder(images.flatten(1)))
    # The gain and the background of an image say nothing about a conformation; 1e-5 is the guard against blank images.
    torch.testing.assert_close(encoder(images), encoder(3 * images + 2), atol=1e-3, rtol=1e-3)


def test_orientation_starts_at_the_given_pose_and_stays_a_rotation() -> None:
    torch.manual_seed(0)
    encoder = OrientationEncoder(64, shift_scale_angstrom=2.0)
    images = torch.randn(5, 8, 8)
    rotations, shifts = encoder(images)
    torch.testing.assert_close(rotations, torch.eye(3).expand(5, 3, 3), atol=2e-2, rtol=0)
    assert shifts.abs().max() < 2e-2

    given = torch.from_numpy(uniform_rotations(5, seed=1)).float()
    moved = torch.randn(5, 2)
    torch.nn.init.normal_(encoder.network.last.weight, std=0.1)  # as if trained
    turned, shifted = encoder(images, given, moved)
    torch.testing.assert_close(turned @ turned.mT, torch.eye(3).expand(5, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turned), torch.ones(5), atol=1e-5, rtol=0)
    turn, shift = encoder(images)
    assert (turn - torch.eye(3)).abs().max() > 0.05
    torch.testing.assert_close(turned, turn @ given)
    torch.testing.assert_close(shifted, shift + moved)


def test_orientation_has_gradients_from_the_first_step() -> None:
    torch.manual_seed(0)
    encoder = OrientationEncoder(64)
    rotations, shifts = encoder(torch.randn(5, 8, 8))
    (rotations * torch.randn(5, 3, 3)).sum().add(shifts.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_linear_deformation_is_a_mean_and_a_basis() -> None:
    encoder = LinearDeformation(2, queries=3, channels=4)
    at_origin, one, other, both = encoder(torch.tensor([[0.0, 0], [1, 0], [0, 1], [2, -3]]))
    assert at_origin.shape == (3, 4)
    torch.testing.assert_close(at_origin, encoder.mean)
    torch.testing.assert_close(both - at_origin, 2 * (one - at_origin) - 3 * (other - at_origin))


def test_outputs_are_linear_in_the_last_hidden_layer() -> None:
    encoder = DeformationEncoder(16, queries=3, channels=4, images=True)
    images = torch.randn(2, 4, 4)
    torch.testing.assert_close(encoder.network.last(encoder.last_hidden(images)).view(2, 3, 4), encoder(images))

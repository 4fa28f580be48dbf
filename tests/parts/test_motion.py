"""Motions of parts: linear in their coefficients, nothing moved at the reference."""

import roma
import torch

from cryoformer.parts.motion import LatentTerms, PartMotions, left_jacobian


def population(count: int = 200, dimension: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, dimension, generator=generator) * torch.tensor([3.0, 0.5][:dimension])


def test_nothing_is_moved_at_the_reference_and_terms_have_unit_variance():
    latents = population()
    terms = LatentTerms.of_population(latents)
    motions = PartMotions(terms, torch.tensor([[5.0, 0.0, 1.0]]), torch.randn(1, len(terms.scale), 6))
    places = motions.at(terms.reference[None])
    torch.testing.assert_close(places.rotations[0, 0], torch.eye(3))
    torch.testing.assert_close(places.centres[0, 0], motions.pivots[0])
    torch.testing.assert_close(terms(latents).std(dim=0), torch.ones(len(terms.scale)))


def test_far_from_the_population_nothing_flies_off():
    latents = population()
    terms = LatentTerms.of_population(latents)
    assert terms(1000 * latents[:5]).abs().max() < 40 * terms(latents).abs().max()


def test_turns_in_coordinates_become_turns_in_space():
    turn, step = torch.tensor([[0.5, -0.8, 0.3]], dtype=torch.float64), torch.tensor([[1e-5, 2e-5, -1e-5]])
    moved = roma.rotvec_to_rotmat(turn + step)
    outside = (left_jacobian(turn) @ step.double()[..., None])[..., 0]
    torch.testing.assert_close(moved, roma.rotvec_to_rotmat(outside) @ roma.rotvec_to_rotmat(turn), atol=1e-9, rtol=0)

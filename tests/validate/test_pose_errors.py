"""Poses that are off are told from poses that are right, whether the particles move or not."""

import torch

from cryoformer.poses.check import check_poses
from cryoformer.poses.posterior import at_poses
from cryoformer.validate.validate import poses_outcome
from toy_images import Simulated, simulate


def errors(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 5, generator=generator) * torch.tensor([0.1, 0.1, 0.1, 5.0, 5.0])


def test_right_poses_hold_although_particles_move(moving: Simulated) -> None:
    outcome = poses_outcome(check_poses(moving.images))
    assert outcome.verdict == "holds"
    assert "No other poses are better" in outcome.sentence


def test_wrong_poses_are_found_with_the_size_of_their_errors() -> None:
    made = simulate(600, noise=0.7, moves=False)
    seen: list[float] = []
    test = check_poses(at_poses(made.images, -errors(600)), seen.append)
    outcome = poses_outcome(test)
    assert outcome.verdict == "fails"
    assert "cryoformer refine" in outcome.sentence
    assert 0.07 < test.found.prior.turn < 0.14
    assert 4.0 < test.found.prior.shift < 6.5
    assert seen == sorted(seen)


def test_there_and_back_again(moving: Simulated) -> None:
    away = errors(len(moving.images))
    there = at_poses(moving.images, away)
    assert not torch.allclose(there.coefficients, moving.images.coefficients, atol=1.0)
    back = at_poses(there, -away)
    torch.testing.assert_close(back.coefficients, moving.images.coefficients, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(back.rotations, moving.images.rotations)

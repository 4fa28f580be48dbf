"""What poses are refined against, and the frame that conformations stay in."""

from dataclasses import replace

import torch

from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.linear.consensus import reconstruct_consensus
from cryoformer.poses.reference import kept_frame, moving_references, still_references
from toy_images import BOX, Simulated


def test_what_latents_predict_of_turns_and_shifts_is_taken_off() -> None:
    generator = torch.Generator().manual_seed(1)
    given = torch.tensor(uniform_rotations(500, 2), dtype=torch.float32)
    latents = torch.randn(500, 2, generator=generator)
    errors = torch.randn(500, 5, generator=generator) * torch.tensor([0.05, 0.05, 0.05, 2.0, 2.0])
    terms = torch.stack([latents[:, 0], latents[:, 1] ** 2, latents[:, 0] * latents[:, 1]], dim=1)
    turn = torch.einsum("nij,nj->ni", given, 0.1 * terms)  # of the molecule, seen in every image
    shift = torch.einsum("nij,nj->ni", given[:, :2], 5.0 * terms)
    found = kept_frame(errors + torch.cat([turn, shift], dim=1), given, latents)
    # Six terms fit a little of the errors of 500 images too.
    assert (found - errors).square().mean(dim=0).sqrt().lt(torch.tensor([0.01, 0.01, 0.01, 0.4, 0.4])).all()
    assert torch.equal(kept_frame(errors, given, latents[:, :0]), errors)


def test_contrast_is_a_latent_of_its_own(moving: Simulated) -> None:
    contrast = 1 + 0.3 * torch.randn(len(moving.images), generator=torch.Generator().manual_seed(3))
    images = replace(moving.images, coefficients=contrast[:, None, None] * moving.images.coefficients)
    consensus = reconstruct_consensus(images)
    for reference in moving_references(images.with_noise(consensus.noise_power), consensus, 16, 0, {}):
        assert reference.latents.shape[1] == reference.conformations + 1 == reference.density.components
        table = torch.stack([reference.latents[:, -1], contrast[reference.rows]])
        assert torch.corrcoef(table)[0, 1] > 0.8


def test_either_half_is_compared_with_its_own_density(moving: Simulated) -> None:
    consensus = reconstruct_consensus(moving.images)
    images = moving.images.with_noise(consensus.noise_power)
    for references in (still_references(images, consensus), moving_references(images, consensus, 16, 0, {})):
        first, second = references
        assert torch.equal(first.rows, images.half(0))
        assert torch.equal(second.rows, images.half(1))
        assert first.density.plane.box == BOX
        rotations = images.rotations[:4]
        values = [
            each.density.project(rotations, torch.zeros(4, each.latents.shape[1]), torch.ones(4))[0]
            for each in (first, second)
        ]
        assert 0.02 < float((values[0] - values[1]).norm() / values[0].norm()) < 0.5
    assert first.latents.shape[1] >= 1
    # The latents of the subspace follow the motion.
    t = torch.tensor(moving.t[first.rows.numpy()], dtype=torch.float32)
    table = torch.cat([first.latents.T, t[None]])
    assert torch.corrcoef(table)[-1, :-1].abs().max() > 0.6

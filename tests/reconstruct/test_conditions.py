"""What the network reads of an image: what is learnt has gradients and a prior; held-out images are only read."""

import pytest
import torch

from cryoformer.imaging.fourier import images_to_fourier
from cryoformer.reconstruct.conditions import FreeLatents, ImageInputs, KnownLatents
from cryoformer.reconstruct.generalisation import split_held_out

from .test_latents import KnownDecoder


def test_known_latents_are_given_as_they_are() -> None:
    latents = torch.randn(6, 2)
    known = KnownLatents(latents)
    assert torch.equal(known.inputs(torch.tensor([4, 1])), latents[[4, 1]])
    assert known.learnt is None
    assert known.penalty(torch.arange(3)) is None
    assert known.known


def test_free_latents_learn_from_their_own_image_and_their_prior() -> None:
    start = torch.randn(6, 2)
    free = FreeLatents(start, seed=0)
    assert not free.known
    rows = torch.tensor([4, 1])
    (3.0 * free.inputs(rows).sum() + free.penalty(rows)).backward()
    gradient = free.learnt.grad
    # d/dz of |z|^2 / 2 averaged over two images is z / 2.
    torch.testing.assert_close(gradient[rows], 3.0 + start[rows] / 2)
    assert gradient[[0, 2, 3, 5]].abs().sum() == 0


def test_free_latents_of_held_out_images_are_read_by_likelihood(moving) -> None:
    train, held_out = split_held_out(600, seed=0)
    truth = torch.tensor(moving.t, dtype=torch.float32)[:, None]
    start = truth.clone()
    start[held_out] = 9.0
    free = FreeLatents(start, seed=0)
    free.read_held_out(KnownDecoder(moving.still), moving.images.minus(moving.still), held_out)
    assert torch.equal(free.latents[train], truth[train])
    error = free.latents[held_out] - truth[held_out]
    assert error.square().mean() < 0.2 * truth.var()


def test_images_are_read_in_real_space_at_the_encoder_s_box(moving) -> None:
    inputs = ImageInputs(moving.images, 16)
    rows = torch.tensor([3, 0])
    assert inputs.latents is None
    images = inputs.inputs(rows)
    assert images.shape == (2, 16, 16)
    torch.testing.assert_close(
        images_to_fourier(images), moving.images.crop(16).coefficients[rows], atol=1e-3, rtol=1e-4
    )


@pytest.mark.parametrize("made", [KnownLatents(torch.zeros(5, 1)), FreeLatents(torch.zeros(5, 1), 0)])
def test_one_input_an_image(made) -> None:
    assert len(made) == 5

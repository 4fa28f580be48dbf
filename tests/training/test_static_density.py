"""The static density: what is left of the images once the motion is known is the body that does not move."""

import torch

from cryoformer.training.static_density import static_density
from decode.test_latent_posterior import KnownDecoder
from toy_images import BOX


def base(moving, latents: torch.Tensor, images_per_state: int = 1) -> torch.Tensor:
    model = KnownDecoder(moving.still)
    everywhere = torch.ones_like(moving.still)
    return static_density(moving.images, model, model.points(BOX), latents, everywhere, images_per_state, seed=0)


def test_base_is_the_body_and_shared_states_lose_little(moving) -> None:
    latents = torch.tensor(moving.t, dtype=torch.float32)[:, None]
    own, wrong = base(moving, latents), base(moving, latents.flip(0))
    assert (own - moving.still).norm() < (wrong - moving.still).norm()
    assert (own - moving.still).norm() < 0.1 * moving.still.norm()
    lost = [float((base(moving, latents, size) - own).norm() / (wrong - own).norm()) for size in (16, 600)]
    assert lost[0] < 0.1
    assert lost[1] > 0.3  # one state for all

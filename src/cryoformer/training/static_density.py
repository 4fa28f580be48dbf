"""The static density: the back-projection of what the network's deviations from its own mean leave of the images.

So what does not vary is Wiener-filtered as a whole, the network's mean included: one closed-form step.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.decode.density_model import ConformationModel, DecodedPoints
from cryoformer.images.fourier_images import FourierImages, Images
from cryoformer.linear.consensus import wiener_backprojection
from cryoformer.training.conditioning import mean_density
from cryoformer.training.shared_states import draw_shared_states


def static_density(
    images: Images,
    model: ConformationModel,
    points: DecodedPoints,
    latents: Float[Tensor, "n k"],
    occupancy: Float[Tensor, "d d d"],
    images_per_state: int,
    seed: int,
    rows: Int[Tensor, " r"] | None = None,
) -> Float[Tensor, "d d d"]:
    """The static density that belongs to the network as it is.

    Args:
        points: the model's, at the images' box.
        occupancy: soft mask of what is not solvent.
        images_per_state: that share a decoded density (:mod:`.shared_states`); each half of the images decodes a
            state for itself, so that a density serves half as many.
        seed: of the states.
        rows: the images it is made from (None: all).
    """
    still = mean_density(model, points, latents)
    # Images of one state follow each other, so that a batch decodes few states.
    states = draw_shared_states(latents, images_per_state, torch.Generator().manual_seed(seed))
    order = states.of_image.argsort(stable=True)
    if rows is not None:
        order = order[torch.isin(order, rows)]

    @torch.no_grad()
    def explained(some: Tensor, batch: FourierImages) -> Tensor:
        if images_per_state == 1:
            return model.predict(points, latents[some], batch, still=still)
        shown, state = states.of_image[some].unique(return_inverse=True)
        return model.predict(points, states.centres[shown], batch, state=state, still=still)

    found = wiener_backprojection(images, explained, order)
    return found.local(images.pixel_size_angstrom) * occupancy - model.added(points, still[None])[0]

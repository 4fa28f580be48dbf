r"""Images of one part alone: everything else taken off, the part in the middle, at its own pose.

    Y'_i = exp(2 pi i k.d_i / L) (Y_i - C_i P_i [b + sum of the other parts where they are in i]),   R'_i = R_i R_m(z_i)

with d_i where the part's pivot is seen. What is left is C_i times a projection of V_m, so programs that refine a still
density can go on with it.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.decode.latent_posterior import choose_states
from cryoformer.images.fourier_images import Images
from cryoformer.images.linear_motion import LinearMotion
from cryoformer.imaging.fourier import fourier_to_images, shift_phases
from cryoformer.parts.kept_density import kept_density
from cryoformer.parts.motion import PartPlaces
from cryoformer.parts.moving_density import MovingDensity
from cryoformer.parts.update import PartProjector

STATES = 256


@torch.no_grad()
def images_of_part(
    images: Images, density: MovingDensity, latents: Float[Tensor, "n k"], part: int
) -> Iterator[Float[Tensor, "b d d"]]:
    """In real space, a batch at a time, in the order of the images."""
    places = density.places(latents)
    projector = PartProjector(density.densities, places)
    residuals = _residuals(images, density, latents)
    for rows, batch in residuals.batches(residuals.every()):
        slices = projector.slices(batch, rows[:, None])
        values = [value[..., 0] for number, value in enumerate(projector.values(slices)) if number != part]
        left = batch.coefficients
        if values:
            left = left - batch.ctf * projector.plane.put(torch.stack(values).sum(dim=0))
        left = left * shift_phases(-slices.shifts[part], images.box, images.pixel_size_angstrom)
        yield fourier_to_images(left, images.box)


def _residuals(images: Images, density: MovingDensity, latents: Float[Tensor, "n k"]) -> Images:
    """Images without the still density and what is kept of the network, that in the nearest of some hundred states."""
    network, still = density.kept, density.densities.still
    if network is None:
        return images.minus(still)
    support = choose_states(latents, STATES, seed=0)
    kept = kept_density(network, network.window, images.box, support)
    if kept is None:
        return images.minus(still)
    nearest = torch.cat([torch.cdist(some, support).argmin(dim=1) for some in latents.split(2**16)])
    return images.minus_motion(LinearMotion(kept.basis, kept.weights[nearest])).minus(
        still + kept.mean + network.static
    )


def part_views(
    rotations: Float[Tensor, "n 3 3"], places: PartPlaces, part: int
) -> tuple[Float[Tensor, "n 3 3"], Float[Tensor, "n 2"]]:
    """R_i R_m(z_i), and where the pivot is seen from the particle's centre, Angstrom."""
    seen = (rotations @ places.centres[part][..., None])[:, :2, 0]
    return rotations @ places.rotations[part], seen

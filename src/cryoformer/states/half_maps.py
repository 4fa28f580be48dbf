r"""Half maps of a state: of particles near it where the molecule moves, of all particles where it does not.

A weighted back-projection of each half of the images for every width (:mod:`.width`). With w the run's window of what
moves, the half maps are

    V^a(x) = w(x) V_h^a(x) + (1 - w(x)) V_all^a(x),        a: the half.

What stands still is the same in every state, so all particles tell of it. The halves are those of the run; no image,
and no width but the chosen one's, passes from one to the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from cryoformer.baselines.kernel_regression import FLOOR
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.slices import volume_from_fourier
from cryoformer.linear.consensus import backprojection_equations
from cryoformer.states.width import Width, agreement_with_narrowest, choose_width


@dataclass(frozen=True)
class StateMaps:
    """Half maps of a state, unfiltered, and how its width was chosen.

    Attributes:
        halves: in the region that moves of the chosen width, elsewhere of all particles.
        weighted: of the chosen width everywhere.
        everything: of all particles.
        chosen: which width.
        agreement: of every width with the narrowest, per shell from 1; see :mod:`.width`.
    """

    halves: Float[np.ndarray, "2 d d d"]
    weighted: Float[np.ndarray, "2 d d d"]
    everything: Float[np.ndarray, "2 d d d"]
    chosen: int
    agreement: Float[np.ndarray, "w s"]


def state_maps(
    images: Images,
    candidates: list[Width],
    window: Float[np.ndarray, "d d d"],
    progress: Callable[[float], None] = lambda _: None,
) -> StateMaps:
    """The half maps of every width, and the choice among them.

    Args:
        images: with their noise spectrum and contrast.
        candidates: narrowest first, the last of all particles.
        window: soft, of what moves.
    """
    found = []
    for number, width in enumerate(candidates):
        found.append(weighted_halves(images, width.weights))
        progress((number + 1) / len(candidates))
    maps = np.stack(found)
    # Nothing moves: everything is the region to choose in.
    region = window if float(window.max()) > 0.5 else np.ones_like(window)
    agreement = agreement_with_narrowest(maps, region)
    chosen = choose_width(agreement)
    halves = region * maps[chosen] + (1.0 - region) * maps[-1]
    return StateMaps(halves.astype(np.float32), maps[chosen], maps[-1], chosen, agreement)


def weighted_halves(images: Images, weights: Float[np.ndarray, " n"]) -> Float[np.ndarray, "2 d d d"]:
    """Back-projections of both halves of the images, each image counting by its weight."""
    counts = torch.from_numpy(weights.astype(np.float32)).to(images.device)
    maps = []
    for number in (0, 1):
        rows = images.half(number)
        equations = backprojection_equations(images, rows[counts[rows] > 0], weights=counts)
        coefficients, _ = equations.solve(FLOOR * equations.precision())
        maps.append(volume_from_fourier(coefficients, images.box)[0].cpu().numpy())
    return np.stack(maps)

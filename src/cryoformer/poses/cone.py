r"""A prior on rotations where rough ones are given: true ones are no farther away than some angle, or little more.

    log p(R | R_i) = -((angle(R, R_i) - D)_+ / E)^2 / 2,     E = 5 degrees

Rotations within D = 90 degrees of a given one are 18 % of all, (D - sin D) / pi. The edge is soft because views are
searched in steps: the one next to the true pose may lie outside.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

EDGE_DEGREES = 5.0
# Angles that may be asked for: of smaller errors the local refinement takes care, and more than half a turn is none.
LEAST, MOST = 20.0, 180.0


@dataclass(frozen=True)
class Cone:
    """Rotations given for n images, and how far the true ones may be from them."""

    given: Float[Tensor, "n 3 3"]
    degrees: float

    def take(self, rows: Int[Tensor, " b"]) -> "Cone":
        """Of these images."""
        return Cone(self.given[rows], self.degrees)

    def log_prior(self, rotations: Float[Tensor, "r 3 3"]) -> Float[Tensor, "n r"]:
        """Of every rotation for every image, 0 at most."""
        return self._of_trace(self.given.flatten(1) @ rotations.flatten(1).T)

    def log_prior_of_modes(self, rotations: Float[Tensor, "n m 3 3"]) -> Float[Tensor, "n m"]:
        """The same where every image has its own rotations."""
        return self._of_trace(torch.einsum("nij,nmij->nm", self.given, rotations))

    def _of_trace(self, trace: Tensor) -> Tensor:
        angle = torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).acos())
        return -0.5 * ((angle - self.degrees).clamp_min(0) / EDGE_DEGREES).square()


def frame_turn(
    found: Float[np.ndarray, "n 3 3"], given: Float[np.ndarray, "n 3 3"]
) -> tuple[Float[np.ndarray, "3 3"], float]:
    """Q for which R Q are nearest to the rotations given on average, and how near.

    The latter is the mean trace of the rotations left, which is 3 where they agree and 0 by chance.
    """
    u, singular, v = np.linalg.svd((np.swapaxes(found, 1, 2) @ given).mean(axis=0))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ v))])
    return (u * sign) @ v, float((sign * singular).sum())

r"""Which motions of a linear model lie in a region.

Components U of the linear model are a mixture of what moves. Of all directions v in their span, those that vary most
within a region w and least elsewhere solve

    (U w U^T) v = share (U U^T) v,

a generalised eigenvalue problem whose values are the shares of their power that lie in the region. Motions that have
nothing to do with one another have directions of their own, so their coordinates come out apart; a motion is said to
lie in the region with more than half of its power. Their posteriors are marginals of those under all components: what
moves elsewhere was accounted for when images were read.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cryoformer.communication import ALONE, Processes
from cryoformer.linear.ppca import PPCA, canonical

LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Divided:
    """A linear model, divided by a region.

    Attributes:
        within: the motions that lie in it, cut off at its edge; None where none does.
        elsewhere: all others, as far as they are outside; None where there are none.
        shares: of the power of each motion that lies in the region, the largest first.
    """

    within: PPCA | None
    elsewhere: PPCA | None
    shares: list[float]


def divide(ppca: PPCA, region: Float[Tensor, "d d d"], processes: Processes = ALONE) -> Divided:
    """The motions that lie in a region, and those that do not."""
    flat = ppca.basis.flatten(1)
    root = torch.linalg.cholesky((flat @ flat.T).double())
    inside = ((flat * region.flatten()) @ flat.T).double()
    half = torch.linalg.solve_triangular(root, inside, upper=False)
    shares, vectors = torch.linalg.eigh(torch.linalg.solve_triangular(root, half.T, upper=False))

    def chosen(which: Bool[Tensor, " k"], inside: Tensor) -> PPCA | None:
        if not bool(which.any()):
            return None
        # Coordinates c = Q^T L^T z along directions L^-T Q, L L^T = U U^T.
        turn = (vectors[:, which].T @ root.T).to(flat)
        directions = torch.linalg.solve_triangular(root.T, vectors[:, which], upper=True).T.to(flat)
        motions = canonical(
            replace(
                ppca,
                basis=(directions @ flat).view(-1, *ppca.mean.shape),
                latents=ppca.latents @ turn.T,
                covariance=turn @ ppca.covariance @ turn.T,
            ),
            processes,
        )
        return replace(motions, basis=motions.basis * inside)

    kept = shares > LEAST_SHARE
    return Divided(chosen(kept, region), chosen(~kept, 1 - region), shares.flip(0).tolist())

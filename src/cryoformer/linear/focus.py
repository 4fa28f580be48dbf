r"""Which motions of a linear model lie in a region.

Components U of the linear model are a mixture of what moves. Of all directions v in their span, those that vary most
within a region w and least elsewhere solve

    (U w U^T) v = share (U U^T) v,

a generalised eigenvalue problem whose values are the shares of their power that lie in the region. Motions that have
nothing to do with one another have directions of their own, so their coordinates come out apart; a motion is said to
lie in the region with more than half of its power. Their posteriors are marginals of those under all components: what
moves elsewhere was accounted for when images were read.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.communication import ALONE, Processes
from cryoformer.linear.ppca import PPCA, canonical

LEAST_SHARE = 0.5


def motions_within(
    ppca: PPCA, region: Float[Tensor, "d d d"], processes: Processes = ALONE
) -> tuple[PPCA | None, list[float]]:
    """The linear model of the motions that lie in a region, cut off at its edge, and the shares of all.

    None where no motion lies in it.
    """
    flat = ppca.basis.flatten(1)
    root = torch.linalg.cholesky((flat @ flat.T).double())
    inside = ((flat * region.flatten()) @ flat.T).double()
    half = torch.linalg.solve_triangular(root, inside, upper=False)
    shares, vectors = torch.linalg.eigh(torch.linalg.solve_triangular(root, half.T, upper=False))
    kept = shares > LEAST_SHARE
    found = shares.flip(0).tolist()
    if not bool(kept.any()):
        return None, found
    # Coordinates c = Q^T L^T z along directions L^-T Q, L L^T = U U^T.
    turn = (vectors[:, kept].T @ root.T).to(flat)
    directions = torch.linalg.solve_triangular(root.T, vectors[:, kept], upper=True).T.to(flat)
    motions = replace(
        ppca,
        basis=(directions @ flat).view(-1, *ppca.mean.shape),
        latents=ppca.latents @ turn.T,
        covariance=turn @ ppca.covariance @ turn.T,
    )
    motions = canonical(motions, processes)
    return replace(motions, basis=motions.basis * region), found

r"""How parts move with the latent: a turn and a shift of every part, smooth functions of z.

    T_m(z) x = exp([w_m(z)]x) (x - p_m) + p_m + t_m(z),     (w_m, t_m)(z) = sum_j c_mj (f_j(z) - f_j(z_0))

p_m is the part's pivot, z_0 the latent of the reference, in which nothing is moved, and f_j are the monomials of the
whitened latent, bounded far from the population so that nothing flies off. Motions are linear in what is fitted, so
that images and states determine them by linear least squares (:mod:`.update`). Lengths are in Angstrom.
"""

from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import roma
import torch
from jaxtyping import Float
from torch import Tensor

# Monomials of the highest degree (at most) that gives no more than so many: 5 of one latent, 4 of two, 2 of six.
MOST_DEGREE, MOST_TERMS = 5, 30
BOUND = 4.0
"""Whitened latents are bent so that none is longer than this."""


@dataclass(frozen=True)
class LatentTerms:
    """f_j(z) - f_j(z_0), each of unit variance over the population."""

    mean: Float[Tensor, " k"]
    whitening: Float[Tensor, "k k"]
    reference: Float[Tensor, " k"]  # z_0
    scale: Float[Tensor, " j"]

    @staticmethod
    def of_population(latents: Float[Tensor, "n k"]) -> "LatentTerms":
        """Terms of these latents; the reference is the one nearest to their mean."""
        k = latents.shape[1]
        mean = latents.mean(dim=0)
        spread = latents - mean
        covariance = spread.T @ spread / len(spread)
        covariance = covariance + 1e-6 * covariance.diagonal().mean().clamp_min(1e-12) * torch.eye(k).to(latents)
        whitening = torch.linalg.inv(torch.linalg.cholesky(covariance)).T.contiguous()
        nearest = (spread @ whitening).square().sum(dim=1).argmin()
        plain = LatentTerms(mean, whitening, latents[nearest], latents.new_ones(len(_exponents(k))))
        return replace(plain, scale=plain(latents).std(dim=0).clamp_min(1e-6))

    def __call__(self, latents: Float[Tensor, "n k"]) -> Float[Tensor, "n j"]:
        return (self._monomials(latents) - self._monomials(self.reference[None])) / self.scale

    def _monomials(self, latents: Float[Tensor, "n k"]) -> Float[Tensor, "n j"]:
        white = (latents - self.mean) @ self.whitening
        white = white / (1 + white.square().sum(dim=1, keepdim=True) / BOUND**2).sqrt()
        return torch.stack([white[:, list(powers)].prod(dim=1) for powers in _exponents(white.shape[1])], dim=1)


def _exponents(dimension: int) -> list[tuple[int, ...]]:
    """The monomials: which latents each multiplies."""
    found: list[tuple[int, ...]] = []
    for degree in range(1, MOST_DEGREE + 1):
        more = list(combinations_with_replacement(range(dimension), degree))
        if degree > 1 and len(found) + len(more) > MOST_TERMS:
            break
        found += more
    return found


@dataclass(frozen=True)
class PartMotions:
    """The motions of m parts.

    Attributes:
        pivots: p_m, Angstrom from the centre of the box; the part's own frame has its origin there.
        coefficients: c_mj: turns (axis times angle, radians), then shifts.
    """

    terms: LatentTerms
    pivots: Float[Tensor, "m 3"]
    coefficients: Float[Tensor, "m j 6"]

    def __len__(self) -> int:
        return len(self.pivots)

    def vectors(self, latents: Float[Tensor, "n k"]) -> Float[Tensor, "m n 6"]:
        """(w, t) of every part."""
        return self.terms(latents) @ self.coefficients

    def at(self, latents: Float[Tensor, "n k"]) -> "PartPlaces":
        """Where these latents take the parts."""
        vectors = self.vectors(latents)
        return PartPlaces(roma.rotvec_to_rotmat(vectors[..., :3]), self.pivots[:, None] + vectors[..., 3:])


@dataclass(frozen=True)
class PartPlaces:
    """The places of m parts in n states: a point x of a part's own frame is at R x + c in the molecule's."""

    rotations: Float[Tensor, "m n 3 3"]
    centres: Float[Tensor, "m n 3"]


def moved(places: PartPlaces, poses: Float[Tensor, "m n 6"]) -> PartPlaces:
    """Places turned and shifted by (w, t)."""
    turned = roma.rotvec_to_rotmat(poses[..., :3]) @ places.rotations
    return PartPlaces(turned, places.centres + poses[..., 3:])


def left_jacobian(turns: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """J with exp([w + dw]x) = exp([J dw]x) exp([w]x) to first order."""
    angle = turns.norm(dim=-1)[..., None, None].clamp_min(1e-4)
    zero = torch.zeros_like(turns[..., 0])
    x, y, z = turns.unbind(-1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(*turns.shape, 3)
    one = torch.eye(3).to(turns)
    return one + (1 - angle.cos()) / angle**2 * cross + (angle - angle.sin()) / angle**3 * (cross @ cross)

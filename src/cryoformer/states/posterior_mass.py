r"""How much every particle belongs to a state: the mass of its latent's posterior near the state's place.

A particle's latent is N(m_i, S_i). Its weight for the state at z* is the expectation of a Gaussian of width h there,

    w_i = E exp(-|z - z*|^2 / 2 h^2) = (|h^2| / |S_i + h^2|)^(1/2) exp(-(m_i - z*)^T (S_i + h^2)^-1 (m_i - z*) / 2),

between 0 and 1: particles that are sure to be near count most, and no particle is anywhere for certain. Widths are
given by how many particles they leave, as the effective number (sum w)^2 / sum w^2 (Kish), which means the
same in any latent space.
"""

import numpy as np
from jaxtyping import Float

BISECTIONS = 50


def posterior_mass(
    away: Float[np.ndarray, "n q"], covariance: Float[np.ndarray, "n q q"], width: float
) -> Float[np.ndarray, " n"]:
    """w_i of posteriors with these means, relative to the place, and covariances."""
    wide = covariance + width**2 * np.eye(away.shape[1])
    square = np.einsum("nj,nj->n", away, np.linalg.solve(wide, away[..., None])[..., 0])
    return np.asarray(np.exp(away.shape[1] * np.log(width) - 0.5 * (np.linalg.slogdet(wide)[1] + square)))


def effective_number(weights: Float[np.ndarray, " n"]) -> float:
    """(sum w)^2 / sum w^2: so many particles of equal weight would have as much noise."""
    return float(weights.sum() ** 2 / max(float(np.square(weights).sum()), 1e-300))


def width_of_number(away: Float[np.ndarray, "n q"], covariance: Float[np.ndarray, "n q q"], number: float) -> float:
    """The width that leaves an effective number of particles; the narrowest where posteriors themselves leave more."""
    scale = float(np.sqrt(np.square(away).sum(axis=1).max() + np.trace(covariance, axis1=1, axis2=2).max()))
    low, high = 1e-4 * scale, 1e4 * scale
    for _ in range(BISECTIONS):
        middle = float(np.sqrt(low * high))
        if effective_number(posterior_mass(away, covariance, middle)) < number:
            low = middle
        else:
            high = middle
    return high

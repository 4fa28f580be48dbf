"""Principal coordinates of the latents: the axes along which the particles differ, most important first."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SMALLEST_SHARE = 1e-10
"""Directions with less of the variance than this are rounding, not latent space."""


@dataclass(frozen=True)
class PrincipalCoordinates:
    """Latents in the frame of their own principal components; nothing is scaled, so distances stay as they are."""

    mean: Float[np.ndarray, " k"]
    components: Float[np.ndarray, "q k"]
    """Orthonormal rows. The largest entry (by magnitude) of each is positive: signs never change between runs."""
    explained: Float[np.ndarray, " q"]
    """Share of the variance along each component, falling; they add to 1."""
    coordinates: Float[np.ndarray, "n q"]

    def latents_at(self, coordinates: Float[np.ndarray, "m q"]) -> Float[np.ndarray, "m k"]:
        """Latents of points given by their first coordinates; the coordinates left out are 0 (the mean)."""
        given = np.asarray(coordinates, dtype=np.float64)
        return np.asarray(self.mean + given @ self.components[: given.shape[1]])

    def coordinates_of(self, latents: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m q"]:
        """Coordinates of any latents: the inverse of :meth:`latents_at`."""
        return np.asarray((np.asarray(latents, dtype=np.float64) - self.mean) @ self.components.T)


def principal_coordinates(latents: Float[np.ndarray, "n k"]) -> PrincipalCoordinates:
    """Principal component analysis of the latents, by the eigenvectors of their k x k covariance.

    Directions without variance are dropped, so q <= k; at least one stays.
    """
    values = np.asarray(latents, dtype=np.float64)
    mean = values.mean(axis=0)
    centred = values - mean
    variances, axes = np.linalg.eigh(centred.T @ centred / len(values))
    variances, components = variances[::-1].clip(0.0), axes[:, ::-1].T
    total = float(variances.sum())
    kept = max(int((variances > SMALLEST_SHARE * total).sum()), 1)
    components = components[:kept]
    strongest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(kept), strongest])[:, None]
    explained = variances[:kept] / variances[:kept].sum() if total > 0 else np.full(kept, 1.0 / kept)
    return PrincipalCoordinates(mean, components, explained, centred @ components.T)

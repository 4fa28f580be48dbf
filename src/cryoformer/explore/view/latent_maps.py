"""Flat maps of the latent space: where each particle lies, and which latent a place on the map stands for."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from scipy.spatial import cKDTree

from cryoformer.assess.latent_space import PrincipalCoordinates, principal_coordinates
from cryoformer.errors import InputError

NEIGHBOURS = 32
"""So many particles around the cursor say what the coordinates are that the map does not show."""
SHOWN_COMPONENTS = 4


@dataclass(frozen=True)
class FlatMap:
    """One map. ``axes`` are the principal components it shows; without any, the map has no inverse."""

    name: str
    title: str
    axis_titles: tuple[str, str]
    coordinates: Float32[np.ndarray, "n 2"]
    axes: tuple[int, int] | None

    @cached_property
    def tree(self) -> cKDTree:
        """For finding particles near a place; made when first needed."""
        return cKDTree(self.coordinates)


class LatentMaps:
    """All maps of a run: pairs of principal components, and UMAP where ``analyze`` has written it."""

    def __init__(self, latents: Float[np.ndarray, "n k"], umap: Float[np.ndarray, "n 2"] | None = None) -> None:
        self.latents = np.asarray(latents, dtype=np.float64)
        self.principal = principal_coordinates(self.latents)
        self.maps: dict[str, FlatMap] = {flat.name: flat for flat in _component_maps(self.principal)}
        if umap is not None:
            flat = np.asarray(umap, dtype=np.float32)
            self.maps["umap"] = FlatMap("umap", "UMAP", ("UMAP 1", "UMAP 2"), flat, None)

    def latent_at(self, name: str, place: tuple[float, float]) -> Float[np.ndarray, " k"]:
        """The latent that a place (x, y) of a map stands for.

        On a map of principal components the two shown are those of the place, the others the mean of the particles
        around it (weights fall with the distance), so that the state stays among the data's own. A UMAP has no inverse:
        there it is the nearest particle's latent.

        Raises:
            InputError: there is no such map.
        """
        flat = self.map(name)
        count = min(NEIGHBOURS, len(self.latents)) if flat.axes else 1
        distances, rows = flat.tree.query(place, k=[*range(1, count + 1)])
        if flat.axes is None:
            return np.asarray(self.latents[rows[0]])
        reach = max(float(distances[-1]), 1e-12)
        weights = np.exp(-0.5 * (2.0 * distances / reach) ** 2)
        coordinates = weights @ self.principal.coordinates[rows] / weights.sum()
        for value, axis in zip(place, flat.axes, strict=True):
            if axis < len(coordinates):
                coordinates[axis] = value
        return np.asarray(self.principal.latents_at(coordinates[None])[0])

    def nearest(self, name: str, place: tuple[float, float]) -> int:
        """The particle nearest to a place on a map."""
        return int(self.map(name).tree.query(place)[1])

    def place_of(self, name: str, latents: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m 2"]:
        """Where latents lie on a map; on a UMAP, where the particle with the nearest latent lies."""
        flat = self.map(name)
        if flat.axes is None:
            return np.asarray(flat.coordinates[self._latent_tree.query(latents)[1]])
        return _columns(self.principal.coordinates_of(latents), flat.axes)

    @cached_property
    def _latent_tree(self) -> cKDTree:
        return cKDTree(self.latents)

    def map(self, name: str) -> FlatMap:
        """The map of this name.

        Raises:
            InputError: there is none.
        """
        if name not in self.maps:
            raise InputError(f"there is no map '{name}'; there are {', '.join(self.maps)}")
        return self.maps[name]


def read_umap(path: Path, count: int) -> Float[np.ndarray, "n 2"] | None:
    """UMAP coordinates of ``latent_space.npz``, or None where it has none or belongs to another number of particles."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as found:
        umap = found["umap"] if "umap" in found.files else None
    return umap if umap is not None and umap.shape == (count, 2) else None


def _component_maps(principal: PrincipalCoordinates) -> list[FlatMap]:
    shown = min(len(principal.explained), SHOWN_COMPONENTS)
    pairs = [(a, b) for a in range(shown) for b in range(a + 1, shown)] or [(0, 1)]
    maps = []
    for pair in pairs:
        titles = tuple(_axis_title(principal, axis) for axis in pair)
        flat = _columns(principal.coordinates, pair).astype(np.float32)
        name, title = f"pc{pair[0] + 1}{pair[1] + 1}", f"Components {pair[0] + 1} and {pair[1] + 1}"
        maps.append(FlatMap(name, title, (titles[0], titles[1]), flat, pair))
    return maps


def _axis_title(principal: PrincipalCoordinates, axis: int) -> str:
    if axis >= len(principal.explained):
        return "(no second component)"
    return f"Component {axis + 1} ({100 * principal.explained[axis]:.0f} % of variance)"


def _columns(coordinates: np.ndarray, axes: tuple[int, int]) -> np.ndarray:
    """Two columns; one that does not exist (a latent space of one dimension) is 0."""
    columns = [coordinates[:, axis] if axis < coordinates.shape[1] else np.zeros(len(coordinates)) for axis in axes]
    return np.stack(columns, axis=1)

"""Where volumes come from: one protocol for the reconstruction, its own baselines, and any other method."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int


@runtime_checkable
class VolumeSource(Protocol):
    """Something that gives a density for every particle, and perhaps for every point of a latent space."""

    @property
    def name(self) -> str:
        """Key of this source in the evaluation."""

    @property
    def latents(self) -> np.ndarray | None:
        """Latent coordinates [n, k] of all particles, or None when every particle has the same volume."""

    def particle_volumes(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """Volumes [z, y, x] of these particles, one at a time."""

    def latent_volumes(self, latents: np.ndarray) -> Iterator[np.ndarray]:
        """Volumes [z, y, x] at these latent points [m, k], one at a time."""


@runtime_checkable
class FinishedRun(Protocol):
    """What evaluation and report need of a run directory (``cryoformer.run.run_folder.open_run``)."""

    @property
    def path(self) -> Path:
        """The run directory."""

    @property
    def box(self) -> int:
        """Side of the volumes in pixels."""

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size of the volumes."""

    @property
    def latents_mean(self) -> np.ndarray:
        """Latent coordinates [n, k] in the particle order of the input."""

    @property
    def latents_covariance(self) -> np.ndarray:
        """Their uncertainty [n, k, k]."""

    @property
    def consensus(self) -> np.ndarray:
        """Homogeneous density [z, y, x]."""

    @property
    def subspace_latents(self) -> np.ndarray | None:
        """Coordinates [n, k'] in the linear subspace."""

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One entry per logged step or epoch."""

    @property
    def config(self) -> dict[str, Any]:
        """Everything needed to repeat the run."""

    def particle_volumes(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """Decoded volumes of particles."""

    def latent_volumes(self, z: np.ndarray) -> Iterator[np.ndarray]:
        """Decoded volumes at latent points [m, k]."""

    def subspace_particle_volumes(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """Volumes of particles in the linear subspace."""

    def subspace_latent_volumes(self, z: np.ndarray) -> Iterator[np.ndarray]:
        """Volumes at points [m, k'] of the linear subspace."""


@dataclass(frozen=True)
class LatentSource:
    """A source made of latents and two functions that decode them."""

    name: str
    latents: Float[np.ndarray, "n k"]
    decode_particles: Callable[[np.ndarray], Iterator[np.ndarray]]
    decode_latents: Callable[[np.ndarray], Iterator[np.ndarray]]

    def particle_volumes(self, indices: Int[np.ndarray, " m"]) -> Iterator[np.ndarray]:
        """Volumes of these particles."""
        return self.decode_particles(indices)

    def latent_volumes(self, latents: Float[np.ndarray, "m k"]) -> Iterator[np.ndarray]:
        """Volumes at these latent points."""
        return self.decode_latents(latents)


@dataclass(frozen=True)
class HomogeneousSource:
    """One volume for every particle."""

    name: str
    volume: Float[np.ndarray, "d d d"]
    latents: None = None

    def particle_volumes(self, indices: Int[np.ndarray, " m"]) -> Iterator[np.ndarray]:
        """The volume, once per particle."""
        return repeat(self.volume, len(indices))

    def latent_volumes(self, latents: Float[np.ndarray, "m k"]) -> Iterator[np.ndarray]:
        """The volume, once per point."""
        return repeat(self.volume, len(latents))


def run_sources(run: FinishedRun) -> list[VolumeSource]:
    """The reconstruction, its consensus map and its linear subspace (left out where the run has none)."""
    sources: list[VolumeSource] = [
        LatentSource("cryoformer", run.latents_mean, run.particle_volumes, run.latent_volumes),
        HomogeneousSource("consensus", run.consensus),
    ]
    if run.subspace_latents is not None:
        subspace = (run.subspace_latents, run.subspace_particle_volumes, run.subspace_latent_volumes)
        sources.append(LatentSource("subspace", *subspace))
    return sources


def nearest_latents(latents: Float[np.ndarray, "n k"], centres: Float[np.ndarray, "m k"]) -> Int[np.ndarray, " m"]:
    """The particle whose latent is nearest (Euclidean) to each centre: a centre itself may lie off the data."""
    return np.array([int(((latents - centre) ** 2).sum(axis=1).argmin()) for centre in centres], dtype=np.int64)


def class_means(latents: Float[np.ndarray, "n k"], classes: Int[np.ndarray, " n"], present: list[int]) -> np.ndarray:
    """Mean latent [m, k] of the particles of each of the classes listed."""
    return np.stack([latents[classes == index].mean(axis=0) for index in present])

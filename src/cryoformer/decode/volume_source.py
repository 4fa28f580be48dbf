"""Densities of particles and at latents: what runs, baselines and any other method are asked for alike."""

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat

import numpy as np
from jaxtyping import Float, Int

from cryoformer.errors import InputError
from cryoformer.imaging.grids import crop_volume

Decode = Callable[[Float[np.ndarray, "m k"]], Iterator[Float[np.ndarray, "d d d"]]]
"""Densities [z, y, x] at latents, one at a time."""


class VolumeSource:
    """Latents of all particles, and the density at any latent.

    Attributes:
        name: of the method, in evaluations and messages.
        latents: [n, k]; with k = 0 all particles have the same density.
        decode: how densities are made.
    """

    def __init__(self, name: str, latents: Float[np.ndarray, "n k"], decode: Decode) -> None:
        self.name, self.latents, self.decode = name, latents, decode

    @staticmethod
    def homogeneous(name: str, volume: Float[np.ndarray, "d d d"], particles: int) -> "VolumeSource":
        """One density for so many particles."""
        nothing = np.zeros((particles, 0), dtype=np.float32)
        return VolumeSource(name, nothing, lambda latents: repeat(volume, len(latents)))

    @property
    def is_homogeneous(self) -> bool:
        """Whether all particles have the same density."""
        return self.latents.shape[1] == 0

    def latent_volumes(self, latents: Float[np.ndarray, "m k"]) -> Iterator[Float[np.ndarray, "d d d"]]:
        """Densities [z, y, x] at points of the latent space, one at a time.

        Raises:
            InputError: points of the wrong dimension.
        """
        if latents.ndim != 2 or latents.shape[1] != self.latents.shape[1]:
            raise InputError(
                f"latent points of shape {latents.shape}: expected rows of {self.latents.shape[1]} numbers, as the "
                f"latents of {self.name} have"
            )
        return self.decode(latents)

    def particle_volumes(self, indices: Sequence[int] | np.ndarray) -> Iterator[Float[np.ndarray, "d d d"]]:
        """Densities of these particles (from 0), one at a time.

        Raises:
            InputError: a particle that is not there.
        """
        rows, count = np.asarray(indices, dtype=np.int64), len(self.latents)
        if rows.size and (rows.min() < 0 or rows.max() >= count):
            raise InputError(f"particle {int(rows.max())}: expected numbers from 0 to {count - 1}; there are {count}")
        return self.latent_volumes(self.latents[rows])

    def cropped(self, box: int) -> "VolumeSource":
        """The same densities at a smaller box, Fourier-cropped."""
        return VolumeSource(
            self.name, self.latents, lambda latents: (crop_volume(volume, box) for volume in self.decode(latents))
        )


def linear_decoder(mean: Float[np.ndarray, "d d d"], basis: Float[np.ndarray, "k d d d"]) -> Decode:
    """Densities mean + z basis."""
    return lambda latents: (mean + np.tensordot(latent, basis, axes=1) for latent in latents.astype(np.float32))


def nearest_latents(latents: Float[np.ndarray, "n k"], centres: Float[np.ndarray, "m k"]) -> Int[np.ndarray, " m"]:
    """The particle whose latent is nearest (Euclidean) to each centre: a centre itself may lie off the data."""
    return np.array([int(((latents - centre) ** 2).sum(axis=1).argmin()) for centre in centres], dtype=np.int64)


def class_means(latents: Float[np.ndarray, "n k"], classes: Int[np.ndarray, " n"], present: list[int]) -> np.ndarray:
    """Mean latent [m, k] of the particles of each of the classes listed."""
    return np.stack([latents[classes == index].mean(axis=0) for index in present])

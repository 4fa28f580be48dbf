"""What a baseline is: settings, a fit of particles with poses that gives latents, and volumes at latents.

A baseline is a module with the three names of :class:`Baseline`; :data:`METHODS` lists them. What a fit keeps for its
decoder lies in the baseline's folder (:mod:`.folder`).
"""

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float
from pydantic import ValidationError

from cryoformer.decode.volume_source import Decode
from cryoformer.errors import InputError
from cryoformer.images.fourier_images import Images
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.particles import Particles
from cryoformer.progress import RunLog
from cryoformer.settings import Settings

if TYPE_CHECKING:
    from cryoformer.baselines.folder import BaselineFolder

METHODS = {
    "homogeneous": "cryoformer.baselines.homogeneous",
    "subspace": "cryoformer.baselines.subspace",
    "sfbp": "cryoformer.baselines.sfbp",
    "resmfn": "cryoformer.baselines.resmfn",
    "cryodrgn": "cryoformer.baselines.cryodrgn",
}


@dataclass(frozen=True)
class FitData:
    """What a baseline is fitted on, where it keeps what it finds, and how long it may take.

    Attributes:
        particles: images, poses and CTF.
        folder: the baseline's folder, made already.
        reading: how images are read, the device that they are kept on, and the seed of everything random.
        seconds: time that the fit may take, or None; methods without epochs take the time they take.
        log: progress, and the clock.
    """

    particles: Particles
    folder: Path
    reading: ImageSettings
    seconds: float | None
    log: RunLog

    def images(self) -> Images:
        """The images as all methods of this package work on them."""
        return read_images(self.particles, self.folder, self.reading)

    def time_is_up(self, needed: float = 0.0) -> bool:
        """Whether ``needed`` more seconds would be too many."""
        return self.seconds is not None and self.log.elapsed + needed > self.seconds


@dataclass(frozen=True)
class Fitted:
    """What a fit found: latents [n, k] (k = 0: one volume for all), their uncertainty, and the grid of the volumes."""

    latents: Float[np.ndarray, "n k"]
    box: int
    pixel_size_angstrom: float
    covariance: Float[np.ndarray, "n k k"] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Baseline(Protocol):
    """A module of this folder."""

    Settings: type[Settings]

    def fit(self, data: FitData, settings: Any) -> Fitted:
        """Latents of all particles; writes what the decoder needs into ``data.folder``."""

    def decoder(self, opened: "BaselineFolder") -> Decode:
        """Volumes [z, y, x] at latent points, one at a time."""


def baseline(method: str) -> Baseline:
    """The module of a method.

    Raises:
        InputError: there is no such method.
    """
    if method not in METHODS:
        raise InputError(f"baseline {method!r}: expected one of {', '.join(METHODS)}")
    return cast(Baseline, import_module(METHODS[method]))


def checked_settings(method: str, values: dict[str, Any]) -> Settings:
    """Settings of a method from plain values.

    Raises:
        InputError: a setting that the method does not have, or that cannot have this value.
    """
    kind = baseline(method).Settings
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        known = ", ".join(kind.model_fields) or "none"
        raise InputError(
            f"setting {place} of {method}: {first['msg']} (got {first['input']!r}; its settings: {known})"
        ) from None


def read_images(particles: Particles, folder: Path, settings: ImageSettings) -> Images:
    """Prepared images; what does not fit into memory is cached in the baseline's folder."""
    return prepare_images(particles, folder / "cache", settings)

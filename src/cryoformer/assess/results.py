"""Whatever a method left behind, opened for assessment: a run, a baseline's folder, or a folder of volumes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryoformer.decode.volume_source import LatentSource, VolumeSource, run_sources
from cryoformer.errors import InputError
from cryoformer.imaging.grids import crop_volume


@dataclass(frozen=True)
class Result:
    """An opened result.

    Attributes:
        kind: "run", "baseline" or "volumes".
        sources: what is scored; the method itself first, for a run its consensus and subspace after it.
        fit_seconds: time that the method took, where it says so.
    """

    path: Path
    kind: str
    sources: list[VolumeSource]
    box: int
    pixel_size_angstrom: float
    particles: int
    fit_seconds: float | None = None


def open_result(path: Path, name: str | None = None, table: Path | None = None) -> Result:
    """What lies at a path; ``name`` renames the method, ``table`` is that of a folder of volumes.

    Raises:
        InputError: nothing that can be scored lies there.
    """
    from cryoformer.baselines.folder import is_baseline, open_baseline

    if is_baseline(path):
        fitted = open_baseline(path)
        return Result(
            path=path,
            kind="baseline",
            sources=[fitted.source(name)],
            box=fitted.box,
            pixel_size_angstrom=fitted.pixel_size_angstrom,
            particles=len(fitted.latents),
            fit_seconds=fitted.seconds,
        )
    if table is not None or (any(path.glob("*.mrc")) and not (path / "config.yaml").exists()):
        return _open_volumes(path, name or path.name, table)
    return _open_run(path, name)


def _open_run(path: Path, name: str | None) -> Result:
    from cryoformer.run.run_folder import open_run

    run = open_run(path)
    sources = run_sources(run)
    if name is not None:
        sources[0] = LatentSource(name, run.latents_mean, run.particle_volumes, run.latent_volumes)
    elapsed = [float(line["elapsed_s"]) for line in run.metrics if "elapsed_s" in line]
    seconds = elapsed[-1] if elapsed else None
    return Result(path, "run", sources, run.box, run.pixel_size_angstrom, len(run.latents_mean), seconds)


def _open_volumes(path: Path, name: str, table: Path | None) -> Result:
    from cryoformer.assess.volume_folder import open_volume_folder
    from cryoformer.files import read_mrc_volume

    source = open_volume_folder(name, path, table)
    volume, pixel_size = read_mrc_volume(source.files[0])
    if len(set(volume.shape)) != 1 or pixel_size <= 0:
        raise InputError(
            f"{source.files[0]}: shape {volume.shape}, pixel size {pixel_size:g} A; expected a cube with its pixel size"
        )
    return Result(path, "volumes", [source], len(volume), pixel_size, len(source.latents))


@dataclass(frozen=True)
class CroppedSource:
    """A source at a smaller box of the same extent, Fourier-cropped."""

    source: VolumeSource
    box: int

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def latents(self) -> np.ndarray | None:
        return self.source.latents

    def particle_volumes(self, indices: Int[np.ndarray, " m"]) -> Iterator[Float[np.ndarray, "d d d"]]:
        """Cropped volumes of particles."""
        return (crop_volume(volume, self.box) for volume in self.source.particle_volumes(indices))

    def latent_volumes(self, latents: Float[np.ndarray, "m k"]) -> Iterator[Float[np.ndarray, "d d d"]]:
        """Cropped volumes at latent points."""
        return (crop_volume(volume, self.box) for volume in self.source.latent_volumes(latents))

"""What the particles of the landscape can be coloured by: what their latents say, and the numbers of their file."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter

from cryoformer.errors import InputError
from cryoformer.particles import Particles

BINS = 128
MICROGRAPH_COLUMNS = ("rlnMicrographName", "location/micrograph_path")
"""Columns that tell the micrograph, in the formats that do."""


@dataclass(frozen=True)
class Column:
    """A value per particle; ``low`` and ``high`` are what the colours span. Classes are numbered from 1."""

    title: str
    values: Float[np.ndarray, " n"]
    is_class: bool = False

    @property
    def range(self) -> tuple[float, float]:
        """Without the most extreme hundredth at both ends, except of classes."""
        known = self.values[np.isfinite(self.values)]
        if not len(known):
            return 0.0, 1.0
        low, high = np.percentile(known, [0, 100] if self.is_class else [1, 99])
        return float(low), float(max(high, low + 1e-12))


class Columns:
    """The columns of a run, made when first asked for."""

    def __init__(
        self,
        analysis: Path,
        flat: Float[np.ndarray, "n q"],
        covariance: Float[np.ndarray, "n k k"],
        contrast: Float[np.ndarray, " n"],
        outlier_score: Float[np.ndarray, " n"] | None,
        read: Callable[[], tuple[Particles, pd.DataFrame]],
    ) -> None:
        """``flat``: principal coordinates; ``read``: particles of the run and their rows of the particle file."""
        self._analysis, self._flat, self._covariance, self._read = analysis, flat, covariance, read
        self._contrast, self._outlier_score = contrast, outlier_score
        self.problem = ""
        """Why there are no columns of the particle file, where there are none."""

    @cached_property
    def all(self) -> dict[str, Column]:
        """Every column by name."""
        found = {"density": Column("Density of particles (log)", _log_density(self._flat))}
        labels, centres = read_clusters(self._analysis, len(self._flat))
        if labels is not None and len(centres) > 1:
            found["state"] = Column("State of the report", (labels + 1).astype(np.float64), is_class=True)
        deviation = np.sqrt(np.trace(self._covariance, axis1=1, axis2=2))
        found["uncertainty"] = Column("Uncertainty of the latent", deviation)
        if self._outlier_score is not None:
            found["outlier"] = Column("Outlier score (deviations)", self._outlier_score.astype(np.float64))
        if np.ptp(self._contrast) > 0:
            found["contrast"] = Column("Contrast of the image", self._contrast.astype(np.float64))
        try:
            particles, table = self._read()
        except InputError as error:
            self.problem = str(error)
            return found
        return found | _of_particles(particles) | _of_table(table)

    def __getitem__(self, name: str) -> Column:
        """Raises InputError for a name that is not there."""
        if name not in self.all:
            raise InputError(f"there is no column '{name}'")
        return self.all[name]


def read_clusters(analysis: Path, count: int) -> tuple[Int[np.ndarray, " n"] | None, Int[np.ndarray, " c"]]:
    """State of every particle (from 0) and the particle that stands for each, as ``analyze`` found them; else None."""
    path = analysis / "latent_space.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as found:
            if {"labels", "centres"} <= set(found.files) and len(found["labels"]) == count:
                return found["labels"], found["centres"]
    return None, np.zeros(0, dtype=np.int64)


def _log_density(flat: Float[np.ndarray, "n q"]) -> Float[np.ndarray, " n"]:
    """Log of the number of particles around each, over the first two components."""
    x, y = flat[:, 0], flat[:, 1] if flat.shape[1] > 1 else np.zeros(len(flat))
    counts, *edges = np.histogram2d(x, y, bins=BINS)
    smooth = gaussian_filter(counts, 2.0)
    cells = [np.digitize(values, edge[1:-1]) for values, edge in zip((x, y), edges, strict=True)]
    return np.asarray(np.log10(np.maximum(smooth[cells[0], cells[1]], 1e-3)))


def _of_particles(particles: Particles) -> dict[str, Column]:
    ctf, view = particles.ctf, particles.rotations[:, 2]
    defocus = (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom).numpy().astype(np.float64) / 2e4
    tilt = np.degrees(np.arccos(view[:, 2].clip(-1.0, 1.0)))
    return {
        "defocus": Column("Defocus (µm)", defocus),
        "tilt": Column("View direction: tilt (°)", tilt),
        "azimuth": Column("View direction: azimuth (°)", np.degrees(np.arctan2(view[:, 1], view[:, 0]))),
    }


def _of_table(table: pd.DataFrame) -> dict[str, Column]:
    found = {}
    for name in MICROGRAPH_COLUMNS:
        if name in table:
            numbers = pd.factorize(table[name])[0] + 1.0
            found["micrograph"] = Column("Micrograph (number)", numbers, is_class=True)
    for name in table:
        values = table[name]
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 1:
            found[f"file:{name}"] = Column(str(name), values.to_numpy(dtype=np.float64))
    return found

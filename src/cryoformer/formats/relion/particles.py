"""RELION particle files (STAR, 3.0 and 3.1 to 5) as Particles.

RELION >= 3.1 keeps what an optics group shares in ``data_optics``, joined on ``rlnOpticsGroup``; groups may differ in
everything, so each value is looked up per particle. RELION 3.0 has all of it in the particle table: pixel size =
10,000 x detector pixel (micron) / magnification, and origins in pixels. Each quantity is looked for under all its
names in both tables, so files between the two (an optics table, but origins in pixels) are read too.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Integer

from cryoformer.errors import InputError
from cryoformer.formats.relion.star import read_star_tables
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.imaging.rotations import matrix_from_euler
from cryoformer.particles.header_check import check_headers
from cryoformer.particles.particles import Particles
from cryoformer.particles.references import open_images, split_references

logger = logging.getLogger(__name__)

POSE_COLUMNS = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
CTF_COLUMNS = (
    "rlnDefocusU",
    "rlnDefocusV",
    "rlnDefocusAngle",
    "rlnVoltage",
    "rlnSphericalAberration",
    "rlnAmplitudeContrast",
)


class RelionTable:
    """The particle table with its optics table joined on: any column, per particle."""

    def __init__(self, source: Path, particles: pd.DataFrame, optics: pd.DataFrame | None) -> None:
        self.source, self.particles, self.optics = source, particles, optics
        self.optics_group, self.optics_row = self._join()

    def __len__(self) -> int:
        return len(self.particles)

    def has(self, column: str) -> bool:
        return column in self.particles.columns or (self.optics is not None and column in self.optics.columns)

    def numbers(self, column: str, default: float | None = None) -> Float[np.ndarray, " n"]:
        """A numeric column per particle, from the optics table if it has it; ``default`` where the column is absent.

        Raises:
            InputError: the column is absent and has no default, or a value is no finite number.
        """
        if self.optics is not None and column in self.optics.columns:
            return _finite(self.optics[column], f"{self.source}: data_optics, ")[self.optics_row]
        if column in self.particles.columns:
            return _finite(self.particles[column], f"{self.source}: ")
        if default is None:
            raise InputError(f"{self.source}: no column {column}, neither in the particle nor in the optics table")
        return np.full(len(self), default)

    def _join(self) -> tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, " n"]]:
        """Each particle's optics group and that group's row in the optics table."""
        inside = "rlnOpticsGroup" in self.particles.columns
        if self.optics is None:
            group = _finite(self.particles["rlnOpticsGroup"], f"{self.source}: ") if inside else np.ones(len(self))
            return group.astype(np.int64), np.zeros(len(self), dtype=np.int64)
        if len(self.optics) == 0:
            raise InputError(f"{self.source}: data_optics has no rows; expected one for every optics group")
        if len(self.optics) == 1 and not (inside and "rlnOpticsGroup" in self.optics.columns):
            return np.ones(len(self), dtype=np.int64), np.zeros(len(self), dtype=np.int64)
        if not inside or "rlnOpticsGroup" not in self.optics.columns:
            raise InputError(
                f"{self.source}: rlnOpticsGroup is missing, so {len(self.optics)} optics groups cannot be told apart; "
                "expected it in both the optics and the particle table"
            )
        known = _finite(self.optics["rlnOpticsGroup"], f"{self.source}: data_optics, ").astype(np.int64)
        if len(np.unique(known)) < len(known):
            raise InputError(f"{self.source}: data_optics lists an optics group twice; number the groups apart")
        group = _finite(self.particles["rlnOpticsGroup"], f"{self.source}: ").astype(np.int64)
        row = pd.Index(known).get_indexer(group)
        if (row < 0).any():
            first = int(np.flatnonzero(row < 0)[0])
            raise InputError(
                f"{self.source}: row {first + 1} is of optics group {group[first]}, which data_optics does not list "
                f"(it lists {', '.join(map(str, known[:8]))}); add the group or correct the row"
            )
        return group, row.astype(np.int64)


def load_relion(
    path: Path, datadir: Path | None = None, *, require_images: bool = True, require_ctf: bool = True
) -> Particles:
    """Particles of a RELION STAR file. Everything but the pixels is checked here, before any work starts.

    Raises:
        InputError: anything that is missing, does not fit or is no number, with file, row and remedy.
    """
    table = RelionTable(path, *read_star_tables(path))
    _check_supported(table)
    rotations = _rotations(table)
    ctf = ctf_parameters(table, require_ctf)
    pixel_sizes = pixel_sizes_angstrom(table)
    shifts = _shifts_angstrom(table, pixel_sizes)
    boxes = table.numbers("rlnImageSize", 0.0).astype(np.int64)
    references = split_references(table.particles["rlnImageName"], path)
    stacks = None
    if require_images:
        stacks = open_images(references, path, datadir)
        check_headers(path, stacks, boxes, pixel_sizes, "rlnImageSize", "rlnImagePixelSize")
        boxes = stacks.boxes
    return Particles(
        source=path,
        boxes=boxes,
        pixel_sizes_angstrom=pixel_sizes,
        rotations=rotations,
        shifts_angstrom=shifts,
        ctf=ctf,
        optics_group=table.optics_group,
        half_set=half_sets(table),
        premultiplied=table.numbers("rlnCtfDataAreCtfPremultiplied", 0.0) != 0,
        declared_sign=None,
        references=references,
        stacks=stacks,
    )


def _finite(column: pd.Series, where: str) -> Float[np.ndarray, " n"]:
    """Values as float64; the message names the first that is no finite number, with its row."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        row = int(bad[0])
        raise InputError(
            f"{where}row {row + 1}: {column.name} is '{column.iloc[row]}', expected a finite number "
            f"({len(bad)} such rows); correct or remove them"
        )
    return values


def _check_supported(table: RelionTable) -> None:
    if np.any(table.numbers("rlnImageDimensionality", 2.0) != 2):
        raise InputError(f"{table.source}: the images are subtomograms (rlnImageDimensionality is not 2); expected 2D")
    tilts = [name for name in ("rlnTomoVisibleFrames", "rlnTomoName") if table.has(name)]
    if tilts:
        raise InputError(
            f"{table.source}: the particles are of tilt series ({tilts[0]}), several images each; expected one image a "
            "particle"
        )
    unused = [name for name in ("rlnBeamTiltX", "rlnOddZernike", "rlnEvenZernike", "rlnMagMat00") if table.has(name)]
    if unused:
        logger.info("%s: higher aberrations and anisotropic magnification are not modelled", table.source)


def _rotations(table: RelionTable) -> Float[np.ndarray, "n 3 3"]:
    missing = [name for name in POSE_COLUMNS if not table.has(name)]
    if missing:
        raise InputError(
            f"{table.source}: no poses: {', '.join(missing)} missing; run a 3D refinement (RELION's Refine3D, or a "
            "consensus refinement elsewhere) and give the STAR file that it writes"
        )
    return matrix_from_euler(np.stack([table.numbers(name) for name in POSE_COLUMNS], axis=1))


def ctf_parameters(table: RelionTable, required: bool) -> CTFParameters:
    """CTF parameters; phase shift and B-factor are 0 where absent.

    Images without CTF, where they are allowed, get one of 1 at all frequencies: w = 1 without defocus.
    """
    missing = [name for name in CTF_COLUMNS if not table.has(name)]
    if missing and (required or "rlnDefocusU" not in missing):
        raise InputError(
            f"{table.source}: no CTF: {', '.join(missing)} missing from the particle and optics tables; run a CTF "
            "estimation and extract the particles with it, or add the columns"
        )
    if missing:
        columns = [np.full(len(table), value) for value in (0.0, 0.0, 0.0, 300.0, 0.0, 1.0, 0.0, 0.0)]
    else:
        columns = [table.numbers(name) for name in CTF_COLUMNS]
        _check_range(table, "rlnVoltage", columns[3] > 0, "a voltage above 0 kV")
        _check_range(table, "rlnAmplitudeContrast", (columns[5] >= 0) & (columns[5] <= 1), "a fraction from 0 to 1")
        columns += [table.numbers("rlnPhaseShift", 0.0), table.numbers("rlnCtfBfactor", 0.0)]
    return CTFParameters(*(torch.from_numpy(column.astype(np.float32)) for column in columns))


def _check_range(table: RelionTable, column: str, fine: np.ndarray, expected: str) -> None:
    if not fine.all():
        row = int(np.flatnonzero(~fine)[0])
        value = table.numbers(column)[row]
        raise InputError(f"{table.source}: row {row + 1}: {column} is {value:g}, expected {expected}; correct the file")


def pixel_sizes_angstrom(table: RelionTable) -> Float[np.ndarray, " n"]:
    """Pixel size per particle in Angstrom, from the tables alone: MRC headers are wrong too often."""
    if table.has("rlnImagePixelSize"):
        column, sizes = "rlnImagePixelSize", table.numbers("rlnImagePixelSize")
    elif table.has("rlnMagnification") and table.has("rlnDetectorPixelSize"):
        column = "rlnMagnification"
        magnification = table.numbers(column)
        _check_range(table, column, magnification > 0, "a magnification above 0")
        column, sizes = "rlnDetectorPixelSize", 10_000.0 * table.numbers("rlnDetectorPixelSize") / magnification
    elif table.has("rlnPixelSize"):
        # Older Warp and cisTEM exports.
        column, sizes = "rlnPixelSize", table.numbers("rlnPixelSize")
    else:
        raise InputError(
            f"{table.source}: no pixel size: expected rlnImagePixelSize in data_optics (RELION 3.1 and later), or "
            "rlnMagnification and rlnDetectorPixelSize (RELION 3.0); add it"
        )
    _check_range(table, column, sizes > 0, "a pixel size above 0 Angstrom")
    return sizes


def _shifts_angstrom(table: RelionTable, pixel_sizes: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    """Where the content sits: minus the origin, which RELION defines as the shift that recentres the image."""
    origins = []
    for axis in "XY":
        if table.has(f"rlnOrigin{axis}Angst"):
            origins.append(table.numbers(f"rlnOrigin{axis}Angst"))
        elif table.has(f"rlnOrigin{axis}"):
            origins.append(table.numbers(f"rlnOrigin{axis}") * pixel_sizes)
        else:
            logger.info("%s: no origin in %s; taken as 0", table.source, axis.lower())
            origins.append(np.zeros(len(table)))
    return 0.0 - np.stack(origins, axis=1)


def half_sets(table: RelionTable) -> Integer[np.ndarray, " n"] | None:
    """1 or 2 per particle, None where the file does not say."""
    if not table.has("rlnRandomSubset"):
        return None
    subset = table.numbers("rlnRandomSubset").astype(np.int64)
    if not np.isin(subset, (1, 2)).all():
        logger.warning("%s: rlnRandomSubset holds values other than 1 and 2; ignored", table.source)
        return None
    return subset

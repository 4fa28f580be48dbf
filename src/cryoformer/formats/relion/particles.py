"""RELION particle files (STAR, 3.0 and 3.1 to 5) as Particles.

RELION >= 3.1 keeps what an optics group shares in ``data_optics``, joined on ``rlnOpticsGroup``; groups may differ in
everything, so each value is looked up per particle. RELION 3.0 has all of it in the particle table: pixel size =
10,000 x detector pixel (micron) / magnification, and origins in pixels. Each quantity is looked for under all its
names in both tables, so files between the two (an optics table, but origins in pixels) are read too.
"""

import logging
import re

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Integer

from cryoformer.errors import InputError
from cryoformer.formats.relion.table import RelionTable
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.imaging.rotations import matrix_from_euler

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

# Higher aberrations, anisotropic magnification and dimming, with the value at which they do nothing.
UNMODELLED = {
    "rlnCtfScalefactor": 1.0,
    "rlnBeamTiltX": 0.0,
    "rlnBeamTiltY": 0.0,
    "rlnOddZernike": 0.0,
    "rlnEvenZernike": 0.0,
    "rlnMagMat00": 1.0,
    "rlnMagMat01": 0.0,
    "rlnMagMat10": 0.0,
    "rlnMagMat11": 1.0,
}

# Angles may go round more than once, but not often.
LARGEST_ANGLE = 1080.0
# So many particles show directions enough for the unit of their angles.
MANY = 20

# What the check of metadata names.
NAMES = {
    "voltage": "rlnVoltage",
    "cs": "rlnSphericalAberration",
    "contrast": "rlnAmplitudeContrast",
    "defocus": "rlnDefocusU or rlnDefocusV",
    "defocus_angle": "rlnDefocusAngle",
    "phase_shift": "rlnPhaseShift",
    "b_factor": "rlnCtfBfactor",
    "pixel_size": "the pixel size",
    "shift": "the origin (rlnOriginXAngst, rlnOriginYAngst, or rlnOriginX, rlnOriginY in pixels)",
    "half_set": "rlnRandomSubset",
}


def check_supported(table: RelionTable) -> None:
    """Refuse subtomograms and tilt series.

    Raises:
        InputError: the rows are no images of single particles.
    """
    if np.any(table.numbers("rlnImageDimensionality", 2.0) != 2):
        raise InputError(f"{table.source}: the images are subtomograms (rlnImageDimensionality is not 2); expected 2D")
    tilts = [name for name in table.columns if name.startswith("rlnTomo")]
    if tilts or _is_tilt_series(table):
        raise InputError(
            f"{table.source}: the particles are of tilt series "
            f"({tilts[0] if tilts else 'rlnCtfScalefactor falls over the rows of each rlnGroupName'}), several images "
            "each; expected one image a particle"
        )
    unused = [name for name, nothing in UNMODELLED.items() if table.has(name) and not _is_nothing(table, name, nothing)]
    if unused:
        logger.warning(
            "%s: %s are not modelled: fine detail is less sharp than it could be, by more the larger they are",
            table.source, ", ".join(unused),
        )  # fmt: skip


def _is_nothing(table: RelionTable, name: str, nothing: float) -> bool:
    """Whether every value of a column, numbers or lists of numbers, is the one that does nothing."""
    owner = table.particles if name in table.particles else table.optics
    assert owner is not None
    numbers = [float(text) for value in owner[name].unique() for text in re.findall(r"[-+.\deE]+", str(value))]
    return bool(np.allclose(numbers, nothing, atol=1e-9))


def _is_tilt_series(table: RelionTable) -> bool:
    """Whether the rows of a group are one particle at several tilts, dimmed by the cosine of the tilt."""
    if not (table.has("rlnCtfScalefactor") and "rlnGroupName" in table.particles.columns):
        return False
    scale, group = table.numbers("rlnCtfScalefactor"), table.particles["rlnGroupName"].astype(str).to_numpy()
    by_group = pd.Series(scale).groupby(group)
    several = by_group.transform("size").to_numpy() > 1
    return bool(several.any() and (by_group.transform("nunique").to_numpy()[several] > 1).mean() > 0.5)


def rotations(table: RelionTable) -> Float[np.ndarray, "n 3 3"]:
    missing = [name for name in POSE_COLUMNS if not table.has(name)]
    if missing:
        raise InputError(
            f"{table.source}: no poses: {', '.join(missing)} missing; run a 3D refinement (RELION's Refine3D, or a "
            "consensus refinement elsewhere) and give the STAR file that it writes"
        )
    angles = np.stack([table.numbers(name) for name in POSE_COLUMNS], axis=1)
    for number, name in enumerate(POSE_COLUMNS):
        table.check_range(name, np.abs(angles[:, number]) <= LARGEST_ANGLE, "an angle in degrees (a column shifted?)")
    largest = np.abs(angles).max(axis=0)
    if len(table) >= MANY and 0 < largest.max() <= 2 * np.pi and len(np.unique(angles)) > 3:
        row = int(np.abs(angles).max(axis=1).argmax())
        raise InputError(
            f"{table.source}: the largest of all angles is {largest.max():.4g} (row {row + 1}), as if "
            f"{', '.join(POSE_COLUMNS)} were in radians; expected degrees; correct the file"
        )
    for number, name in enumerate(POSE_COLUMNS):
        if len(table) >= MANY and 0 < largest[number] <= 2 * np.pi and len(np.unique(angles[:, number])) > MANY // 2:
            logger.warning(
                "%s: the largest %s is %.4g, and other angles are larger: in radians? Degrees are expected",
                table.source, name, largest[number],
            )  # fmt: skip
    return matrix_from_euler(angles)


def ctf_parameters(table: RelionTable, required: bool) -> CTFParameters:
    """CTF parameters; phase shift and B-factor are 0 where absent.

    Images without CTF, where they are allowed, get one of 1 at all frequencies: w = 1 without defocus.
    """
    missing = [name for name in CTF_COLUMNS if not table.has(name)]
    if missing and (required or "rlnDefocusU" not in missing):
        raise InputError(
            f"{table.source}: no CTF: {', '.join(missing)} missing from the particle and optics tables; run a CTF "
            "estimation and extract the particles with it, or add the columns; if the images have no CTF, or are "
            "corrected for it, give --no-ctf"
        )
    if missing:
        return CTFParameters.none(len(table))
    columns = [table.numbers(name) for name in CTF_COLUMNS]
    table.check_range("rlnVoltage", columns[3] > 0, "a voltage above 0 kV")
    table.check_range("rlnAmplitudeContrast", (columns[5] >= 0) & (columns[5] <= 1), "a fraction from 0 to 1")
    columns += [table.numbers("rlnPhaseShift", 0.0), table.numbers("rlnCtfBfactor", 0.0)]
    return CTFParameters(*(torch.from_numpy(column.astype(np.float32)) for column in columns))


def pixel_sizes_angstrom(table: RelionTable) -> Float[np.ndarray, " n"]:
    """Pixel size per particle in Angstrom, from the tables alone: MRC headers are wrong too often."""
    if table.has("rlnImagePixelSize"):
        column, sizes = "rlnImagePixelSize", table.numbers("rlnImagePixelSize")
    elif table.has("rlnMagnification") and table.has("rlnDetectorPixelSize"):
        column = "rlnMagnification"
        magnification = table.numbers(column)
        table.check_range(column, magnification > 0, "a magnification above 0")
        column, sizes = "rlnDetectorPixelSize", 10_000.0 * table.numbers("rlnDetectorPixelSize") / magnification
    elif table.has("rlnPixelSize"):
        # Older Warp and cisTEM exports.
        column, sizes = "rlnPixelSize", table.numbers("rlnPixelSize")
    else:
        raise InputError(
            f"{table.source}: no pixel size: expected rlnImagePixelSize in data_optics (RELION 3.1 and later), or "
            "rlnMagnification and rlnDetectorPixelSize (RELION 3.0); add it"
        )
    table.check_range(column, sizes > 0, "a pixel size above 0 Angstrom")
    return sizes


def shifts_angstrom(table: RelionTable, pixel_sizes: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    """Where the content sits: minus the origin, which RELION defines as the shift that recentres the image."""
    origins = []
    for axis in "XY":
        if table.has(f"rlnOrigin{axis}Angst"):
            origins.append(table.numbers(f"rlnOrigin{axis}Angst"))
            _check_origins(table, axis, origins[-1], pixel_sizes)
        elif table.has(f"rlnOrigin{axis}"):
            origins.append(table.numbers(f"rlnOrigin{axis}") * pixel_sizes)
        else:
            logger.info("%s: no origin in %s; taken as 0", table.source, axis.lower())
            origins.append(np.zeros(len(table)))
    return 0.0 - np.stack(origins, axis=1)


def _check_origins(
    table: RelionTable, axis: str, angstrom: Float[np.ndarray, " n"], pixel_sizes: Float[np.ndarray, " n"]
) -> None:
    """One warning where a file says origins twice, and not the same ones."""
    if f"rlnOrigin{axis}" in table.particles.columns:
        pixels = table.said(f"rlnOrigin{axis}")
        other = np.flatnonzero(np.abs(pixels * pixel_sizes - angstrom) > 0.1 * pixel_sizes)
        if len(other):
            logger.warning(
                "%s: row %d: rlnOrigin%s is %g pixels, rlnOrigin%sAngst is %g A (%d rows do not agree); those in "
                "Angstrom are used", table.source, other[0] + 1, axis, pixels[other[0]], axis, angstrom[other[0]],
                len(other),
            )  # fmt: skip


def half_sets(table: RelionTable) -> Integer[np.ndarray, " n"] | None:
    """1 or 2 per particle, None where the file does not say."""
    if not table.has("rlnRandomSubset"):
        return None
    subset = table.numbers("rlnRandomSubset").astype(np.int64)
    if not np.isin(subset, (1, 2)).all():
        logger.warning("%s: rlnRandomSubset holds values other than 1 and 2; ignored", table.source)
        return None
    return subset

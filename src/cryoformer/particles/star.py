"""RELION STAR files as tables: reading the particle and optics tables, writing those of a simulated stack.

The parsing is the starfile library's. What is here says which table is which, and turns whatever can be wrong with
a file into one sentence.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import starfile
from jaxtyping import Float, Integer

from cryoformer.errors import InputError
from cryoformer.files import atomic_path
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.imaging.rotations import euler_from_matrix

TEXT_COLUMNS = [
    "rlnImageName",
    "rlnMicrographName",
    "rlnImageOriginalName",
    "rlnOpticsGroupName",
    "rlnMicrographNameNoDW",
]


def read_star_tables(path: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The particle table (the one with ``rlnImageName``) and the optics table, None in files before RELION 3.1.

    The optics table may stand anywhere in the file.

    Raises:
        InputError: the file is missing, cannot be parsed, or has no particles.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a RELION particle STAR file")
    try:
        blocks = starfile.read(path, always_dict=True, parse_as_string=TEXT_COLUMNS)
    except (ValueError, TypeError, IndexError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: cannot be parsed as a STAR file ({reason}); every row of a table needs as many values "
            "as the table has columns"
        ) from error
    # A table of one row may be written as name-value pairs instead of a loop.
    tables = {
        name: block if isinstance(block, pd.DataFrame) else pd.DataFrame([block]) for name, block in blocks.items()
    }
    particles = [name for name, table in tables.items() if "rlnImageName" in table.columns]
    if not particles:
        found = ", ".join(f"data_{name} ({len(table)} rows)" for name, table in tables.items()) or "no tables"
        raise InputError(
            f"{path}: no table with the column rlnImageName (found {found}); expected a particle STAR file, "
            "as RELION's Extract, Refine3D or Class3D write it"
        )
    table = tables["particles"] if "particles" in particles else tables[particles[0]]
    if len(table) == 0:
        raise InputError(f"{path}: the particle table has no rows; select at least one particle")
    return table, tables.get("optics")


def write_particles_star(
    path: Path | str,
    image_names: Sequence[str],
    rotations: Float[np.ndarray, "n 3 3"],
    shifts_angstrom: Float[np.ndarray, "n 2"],
    ctf: CTFParameters,
    pixel_size_angstrom: float,
    box: int,
    half_set: Integer[np.ndarray, " n"] | None = None,
) -> None:
    """Write a RELION 3.1 particle STAR file: ``data_optics`` and ``data_particles``.

    Args:
        image_names: ``000001@stack.mrcs``, the path relative to the STAR file's folder.
        rotations: R, volume to image coordinates.
        shifts_angstrom: (x, y) of where the content sits; RELION's origin is minus that.
        ctf: one row per particle; every combination of voltage, Cs and amplitude contrast becomes an optics group.
        half_set: 1 or 2 for each particle (``rlnRandomSubset``).
    """
    optics_values = np.stack(
        [
            np.asarray(column, dtype=np.float64)
            for column in (ctf.voltage_kv, ctf.spherical_aberration_mm, ctf.amplitude_contrast)
        ],
        axis=1,
    )
    groups, group_of_particle = np.unique(optics_values, axis=0, return_inverse=True)
    number = np.arange(1, len(groups) + 1)
    optics = pd.DataFrame(
        {
            "rlnOpticsGroup": number,
            "rlnOpticsGroupName": [f"opticsGroup{group}" for group in number],
            "rlnVoltage": groups[:, 0],
            "rlnSphericalAberration": groups[:, 1],
            "rlnAmplitudeContrast": groups[:, 2],
            "rlnImagePixelSize": float(pixel_size_angstrom),
            "rlnImageSize": box,
            "rlnImageDimensionality": 2,
        }
    )
    rot, tilt, psi = euler_from_matrix(rotations).T
    table = {
        "rlnImageName": list(image_names),
        "rlnOpticsGroup": group_of_particle.reshape(-1) + 1,
        "rlnAngleRot": rot,
        "rlnAngleTilt": tilt,
        "rlnAnglePsi": psi,
        "rlnOriginXAngst": 0.0 - shifts_angstrom[:, 0],
        "rlnOriginYAngst": 0.0 - shifts_angstrom[:, 1],
        "rlnDefocusU": np.asarray(ctf.defocus_u_angstrom, dtype=np.float64),
        "rlnDefocusV": np.asarray(ctf.defocus_v_angstrom, dtype=np.float64),
        "rlnDefocusAngle": np.asarray(ctf.defocus_angle_degrees, dtype=np.float64),
        "rlnPhaseShift": np.asarray(ctf.phase_shift_degrees, dtype=np.float64),
        "rlnCtfBfactor": np.asarray(ctf.b_factor_angstrom2, dtype=np.float64),
    }
    if half_set is not None:
        table["rlnRandomSubset"] = half_set
    text = starfile.to_string({"optics": optics, "particles": pd.DataFrame(table)})
    with atomic_path(path) as temporary:
        # The library's first line holds the time of day; the same particles give the same file.
        temporary.write_text("# STAR file of RELION 3.1, written by CryoFormer" + text[text.index("\n") :])

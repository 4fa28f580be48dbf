"""RELION STAR files as tables: reading the particle and optics tables, and writing those of any particles.

What is here says which table is which, and turns whatever can be wrong with a file into one sentence.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import starfile
from jaxtyping import Bool, Float, Float32, Integer
from torch import Tensor

from cryoformer.errors import InputError
from cryoformer.files import atomic_path
from cryoformer.formats.relion.star_text import StarText, TableText
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.imaging.rotations import euler_from_matrix


def read_star_tables(path: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The particle table (the one with ``rlnImageName``) and the optics table, None in files before RELION 3.1.

    The optics table may stand anywhere in the file.

    Raises:
        InputError: the file is missing, cannot be parsed, or has no particles.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a RELION particle STAR file")
    star = StarText(path)
    particles, optics = particle_tables(star)
    try:
        table = star.frame(particles)
        optics_table = None if optics is None else star.frame(optics)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: cannot be parsed as a STAR file ({reason}); every row of a table needs as many values "
            "as the table has columns"
        ) from error
    if len(table) == 0:
        raise InputError(f"{path}: the particle table has no rows; select at least one particle")
    return table, optics_table


def particle_tables(star: StarText) -> tuple[TableText, TableText | None]:
    """Which table lists the particles, and which the optics groups.

    Raises:
        InputError: no table has images.
    """
    particles = [table for table in star.tables if "rlnImageName" in table.columns]
    # An empty table beside one with rows takes nothing away.
    particles = [table for table in particles if star.count(table)] or particles[:1]
    if not particles:
        found = ", ".join(f"data_{table.name} ({len(table.columns)} columns)" for table in star.tables) or "no tables"
        raise InputError(
            f"{star.path}: no table with the column rlnImageName (found {found}); expected a particle STAR file, "
            "as RELION's Extract, Refine3D or Class3D write it"
        )
    optics = [table for table in star.tables if table.name == "optics"]
    for what, tables in (("list particles", particles), ("are data_optics", optics)):
        if len(tables) > 1:
            counts = ", ".join(f"data_{table.name}: {star.count(table)} rows" for table in tables)
            raise InputError(
                f"{star.path}: {len(tables)} tables {what} ({counts}); join them into one (relion_star_handler "
                "--combine), or keep one of them in a file of its own"
            )
    return particles[0], optics[0] if optics else None


def write_particles_star(
    path: Path | str,
    image_names: Sequence[str],
    rotations: Float[np.ndarray, "n 3 3"] | None,
    shifts_angstrom: Float[np.ndarray, "n 2"],
    ctf: CTFParameters,
    pixel_size_angstrom: float | Float[np.ndarray, " n"],
    box: int | Integer[np.ndarray, " n"],
    half_set: Integer[np.ndarray, " n"] | None = None,
    premultiplied: bool | Bool[np.ndarray, " n"] = False,
    optics_group: int | Integer[np.ndarray, " n"] = 1,
) -> None:
    """Write a RELION 3.1 particle STAR file: ``data_optics`` and ``data_particles``.

    Args:
        image_names: ``000001@stack.mrcs``, the path relative to the STAR file's folder.
        rotations: R, volume to image coordinates; None leaves out angles and origins.
        shifts_angstrom: (x, y) of where the content sits; RELION's origin is minus that.
        ctf: one row per particle.
        box: image side; 0 where it is not known, which leaves ``rlnImageSize`` out.
        half_set: 1 or 2 for each particle (``rlnRandomSubset``).
        premultiplied: whether the images were multiplied by their CTF.
        optics_group: particles of different groups stay in different groups. The file numbers its groups from 1, one
            for every combination of group, voltage, Cs, amplitude contrast, pixel size, box and premultiplication.
    """
    lens = (ctf.voltage_kv, ctf.spherical_aberration_mm, ctf.amplitude_contrast)
    shared = [optics_group, *map(_decimal, (*lens, pixel_size_angstrom)), box, premultiplied]
    columns = [np.broadcast_to(np.asarray(values, dtype=np.float64), len(image_names)) for values in shared]
    by_particle = pd.DataFrame(dict(enumerate(columns)))
    groups = by_particle.drop_duplicates().sort_values(list(by_particle.columns)).to_numpy()
    poses = {}
    if rotations is not None:
        poses = dict(zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), euler_from_matrix(rotations).T, strict=True))
        poses |= {f"rlnOrigin{axis}Angst": 0.0 - shifts_angstrom[:, place] for place, axis in enumerate("XY")}
    table = {
        "rlnImageName": list(image_names),
        "rlnOpticsGroup": by_particle.groupby(list(by_particle.columns)).ngroup() + 1,
        **poses,
        "rlnDefocusU": np.asarray(ctf.defocus_u_angstrom, dtype=np.float64),
        "rlnDefocusV": np.asarray(ctf.defocus_v_angstrom, dtype=np.float64),
        "rlnDefocusAngle": np.asarray(ctf.defocus_angle_degrees, dtype=np.float64),
        "rlnPhaseShift": np.asarray(ctf.phase_shift_degrees, dtype=np.float64),
        "rlnCtfBfactor": np.asarray(ctf.b_factor_angstrom2, dtype=np.float64),
    }
    if half_set is not None:
        table["rlnRandomSubset"] = half_set
    text = starfile.to_string({"optics": _optics_table(groups), "particles": pd.DataFrame(table)})
    with atomic_path(path) as temporary:
        # The library's first line holds the time of day; the same particles give the same file.
        temporary.write_text("# STAR file of RELION 3.1, written by CryoFormer" + text[text.index("\n") :])


def _optics_table(groups: Float[np.ndarray, "g 7"]) -> pd.DataFrame:
    """The optics table, with every digit of its values: the particle table's six decimals round them too far."""
    number = np.arange(1, len(groups) + 1)
    table = {
        "rlnOpticsGroup": number,
        "rlnOpticsGroupName": [f"opticsGroup{group}" for group in number],
        "rlnVoltage": groups[:, 1].astype(str),
        "rlnSphericalAberration": groups[:, 2].astype(str),
        "rlnAmplitudeContrast": groups[:, 3].astype(str),
        "rlnImagePixelSize": groups[:, 4].astype(str),
        "rlnImageSize": groups[:, 5].astype(np.int64),
        "rlnImageDimensionality": 2,
        "rlnCtfDataAreCtfPremultiplied": groups[:, 6].astype(np.int64),
    }
    if not groups[:, 5].all():
        del table["rlnImageSize"]
    if not groups[:, 6].any():
        del table["rlnCtfDataAreCtfPremultiplied"]
    return pd.DataFrame(table)


def _decimal(values: float | Float[np.ndarray, " n"] | Float32[Tensor, " n"]) -> Float[np.ndarray, " m"]:
    """The shortest decimals that mean the same as float32 numbers: 2.7, not 2.7000000477."""
    numbers = np.atleast_1d(np.asarray(values, dtype=np.float32))
    different, place = np.unique(numbers, return_inverse=True)
    return different.astype(str).astype(np.float64)[place]

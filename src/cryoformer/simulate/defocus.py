"""Defoci of simulated images: drawn from a distribution, or from those of real particles in a file."""

from pathlib import Path

import numpy as np
import pandas as pd
import starfile
from jaxtyping import Float

from cryoformer.errors import InputError

LEAST_ANGSTROM, MOST_ANGSTROM = 5000.0, 50000.0
ASTIGMATISM_SPREAD_ANGSTROM = 200.0
CSV_COLUMNS = ("defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle_degree")
STAR_COLUMNS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")


def draw_defocus(
    generator: np.random.Generator, count: int, mean_angstrom: float, spread_angstrom: float
) -> Float[np.ndarray, "n 3"]:
    """(U, V, angle): mean defocus normal and cut at 0.5 and 5 micrometres, U - V half-normal, angle uniform."""
    mean = np.clip(generator.normal(mean_angstrom, spread_angstrom, count), LEAST_ANGSTROM, MOST_ANGSTROM)
    half = np.abs(generator.normal(0.0, ASTIGMATISM_SPREAD_ANGSTROM, count)) / 2
    return np.stack([mean + half, mean - half, generator.uniform(0.0, 180.0, count)], axis=1)


def draw_defocus_from(
    table: Float[np.ndarray, "m 3"], generator: np.random.Generator, count: int
) -> Float[np.ndarray, "n 3"]:
    """Rows of the table in random order, each used once before any is used twice."""
    rows = np.concatenate([generator.permutation(len(table)) for _ in range(-(-count // len(table)))])
    return table[rows[:count]]


def read_defocus(path: Path | str) -> Float[np.ndarray, "m 3"]:
    """(U, V, angle) in Angstrom and degrees of every row of a CSV or STAR file.

    A CSV has the columns ``defocus_u_angstrom``, ``defocus_v_angstrom`` and ``defocus_angle_degree``; of a STAR file
    the table with ``rlnDefocusU`` is read.

    Raises:
        InputError: the file is missing or unreadable, lacks a column, or holds something that is no defocus.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected defoci as CSV or STAR")
    columns = STAR_COLUMNS if path.suffix == ".star" else CSV_COLUMNS
    try:
        table = _star_table(path) if path.suffix == ".star" else pd.read_csv(path)
    except (ValueError, TypeError, IndexError, KeyError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read ({reason}); expected defoci as CSV or STAR") from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(f"{path}: has no column {', '.join(missing)}; expected {', '.join(columns)}")
    values = table[list(columns)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    if len(values) == 0:
        raise InputError(f"{path}: holds no rows; expected one defocus a row")
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise InputError(f"{path}: row {wrong[0] + 1} is no defocus; expected three numbers: {', '.join(columns)}")
    return values


def _star_table(path: Path) -> pd.DataFrame:
    for block in starfile.read(path, always_dict=True).values():
        table = block if isinstance(block, pd.DataFrame) else pd.DataFrame([block])
        if STAR_COLUMNS[0] in table.columns:
            return table
    return pd.DataFrame()

"""The particle table of a STAR file with its optics table joined on.

RELION >= 3.1 keeps what an optics group shares in ``data_optics``, joined on ``rlnOpticsGroup``; groups may differ in
everything, so each value is looked up per particle.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Integer

from cryoformer.errors import InputError

logger = logging.getLogger(__name__)


class RelionTable:
    """The particle table with its optics table joined on: any column, per particle."""

    def __init__(self, source: Path, particles: pd.DataFrame, optics: pd.DataFrame | None) -> None:
        self.source, self.particles, self.optics = source, particles, optics
        self.optics_group, self.optics_row = self._join()
        self._warned: set[str] = set()

    def __len__(self) -> int:
        return len(self.particles)

    @property
    def columns(self) -> list[str]:
        """All columns, of both tables."""
        return [*self.particles.columns, *([] if self.optics is None else self.optics.columns)]

    def has(self, column: str) -> bool:
        return column in self.columns

    def numbers(self, column: str, default: float | None = None) -> Float[np.ndarray, " n"]:
        """A numeric column per particle, from the optics table if it has it; ``default`` where the column is absent.

        Raises:
            InputError: the column is absent and has no default, or a value is no finite number.
        """
        if self.optics is not None and column in self.optics.columns:
            values = _finite(self.optics[column], f"{self.source}: data_optics, ")[self.optics_row]
            if column in self.particles.columns:
                self._check_agreement(column, values, self.said(column))
            return values
        if column in self.particles.columns:
            return _finite(self.particles[column], f"{self.source}: ")
        if default is None:
            raise InputError(f"{self.source}: no column {column}, neither in the particle nor in the optics table")
        return np.full(len(self), default)

    def said(self, column: str) -> Float[np.ndarray, " n"]:
        """A column of the particle table whose values are not used: NaN where they are no numbers."""
        return pd.to_numeric(self.particles[column], errors="coerce").to_numpy(np.float64)

    def _check_agreement(self, column: str, optics: Float[np.ndarray, " n"], own: Float[np.ndarray, " n"]) -> None:
        other = np.flatnonzero(~np.isclose(optics, own, rtol=1e-3, atol=1e-6) & np.isfinite(own))
        if len(other) and column not in self._warned:
            self._warned.add(column)
            row = int(other[0])
            logger.warning(
                "%s: row %d: %s is %g in the particle table and %g in data_optics (%d such rows); that of data_optics "
                "is used", self.source, row + 1, column, own[row], optics[row], len(other),
            )  # fmt: skip

    def check_range(self, column: str, fine: Bool[np.ndarray, " n"], expected: str) -> None:
        """Raise an InputError that names the first row whose value is not as expected."""
        if not fine.all():
            row = int(np.flatnonzero(~fine)[0])
            value = self.numbers(column)[row]
            raise InputError(
                f"{self.source}: row {row + 1}: {column} is {value:g}, expected {expected}; correct the file"
            )

    def _join(self) -> tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, " n"]]:
        """Each particle's optics group and that group's row in the optics table."""
        inside = "rlnOpticsGroup" in self.particles.columns
        if self.optics is None:
            group = _whole(self.particles["rlnOpticsGroup"], f"{self.source}: ") if inside else np.ones(len(self))
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
        known = _whole(self.optics["rlnOpticsGroup"], f"{self.source}: data_optics, ").astype(np.int64)
        if len(np.unique(known)) < len(known):
            raise InputError(f"{self.source}: data_optics lists an optics group twice; number the groups apart")
        group = _whole(self.particles["rlnOpticsGroup"], f"{self.source}: ").astype(np.int64)
        row = pd.Index(known).get_indexer(group)
        if (row < 0).any():
            first = int(np.flatnonzero(row < 0)[0])
            raise InputError(
                f"{self.source}: row {first + 1} is of optics group {group[first]}, which data_optics does not list "
                f"(it lists {', '.join(map(str, known[:8]))}); add the group or correct the row"
            )
        return group, row.astype(np.int64)


def _whole(column: pd.Series, where: str) -> Float[np.ndarray, " n"]:
    """The same of values that must be whole numbers."""
    values = _finite(column, where)
    bad = np.flatnonzero(values != np.floor(values))
    if len(bad):
        row = int(bad[0])
        raise InputError(f"{where}row {row + 1}: {column.name} is {values[row]:g}, expected a whole number; correct it")
    return values


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

"""STAR files as text: where each table stands, its values, and the same file with other rows or values.

Reading and writing keep to the bytes of the file, so that a selection of particles has every column, table and comment
of its source with not one digit changed (RELION reads the file's version from a comment), and a million rows go
straight to the reader of pandas. What the format allows, and particle files use: tables as loops or as name-value
pairs, in any order; values with spaces in quotes; comments; either line end.

The starfile library, which writes the tables that are made here, can do neither: it keeps no text, and reads a million
rows into twice the memory.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Integer

from cryoformer.errors import InputError

# Numbers in the rest of a name must not lose their leading zeros.
TEXT_COLUMNS = (
    "rlnImageName",
    "rlnMicrographName",
    "rlnImageOriginalName",
    "rlnOpticsGroupName",
    "rlnMicrographNameNoDW",
)

COMMENT = re.compile(rb"(?m)(?:^|(?<=[ \t]))#[^\n]*")
SINGLE_QUOTED = re.compile(rb"(?m)(?:^|(?<=[ \t]))'([^'\n]*)'(?=[ \t]|$)")
VALUE = re.compile(rb"\"[^\"\n]*\"(?=\s|$)|'[^'\n]*'(?=\s|$)|\S+")


@dataclass(frozen=True)
class TableText:
    """One table: its columns, and the bytes of the file that hold its rows (or its name-value pairs)."""

    name: str
    columns: tuple[str, ...]
    is_loop: bool
    start: int
    stop: int


@dataclass(frozen=True)
class TableEdit:
    """A table with other rows (from 0; None keeps all) and with columns whose values, one per row kept, replace its.

    Columns that the table does not have are added to it.
    """

    table: TableText
    rows: Integer[np.ndarray, " m"] | None
    values: Mapping[str, Sequence[str]]


class StarText:
    """A STAR file and its tables.

    Raises:
        InputError: there is no such file, or a table has a column twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: no such file, or not readable; expected a RELION STAR file") from error
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self.text = text
        starts = [*_table_starts(text), len(text)]
        self.tables = [self._find_table(*bounds) for bounds in pairwise(starts)]

    def _find_table(self, start: int, stop: int) -> TableText:
        place, columns, is_loop = self._line_end(start, stop), list[str](), False
        name = self.text[start:place].split()[0].removeprefix(b"data_").decode(errors="replace")
        pairs_start = place
        while place < stop:
            line_end = self._line_end(place, stop)
            line = self.text[place:line_end].strip()
            if line.startswith(b"loop_") and not columns:
                is_loop = True
            elif line.startswith(b"_"):
                columns.append(line.split()[0][1:].decode(errors="replace"))
            elif line and not line.startswith(b"#"):
                break
            place = line_end
        if len(set(columns)) < len(columns):
            twice = next(column for column in columns if columns.count(column) > 1)
            raise InputError(f"{self.path}: data_{name} has the column {twice} twice; remove one")
        return TableText(name, tuple(columns), is_loop, place if is_loop else pairs_start, stop)

    def _line_end(self, start: int, stop: int) -> int:
        place = self.text.find(b"\n", start, stop)
        return stop if place < 0 else place + 1

    def count(self, table: TableText) -> int:
        """Number of rows, by the lines that hold values."""
        return int(sum(self._is_row(table))) if table.is_loop else 1

    def _is_row(self, table: TableText) -> list[bool]:
        lines = self.text[table.start : table.stop].split(b"\n")
        return [bool(line) and not line.isspace() and not line.lstrip().startswith(b"#") for line in lines]

    def frame(self, table: TableText) -> pd.DataFrame:
        """The values of a table, numbers as numbers; a table of name-value pairs has one row.

        Raises:
            ValueError: rows that do not fit the columns, or bytes that are no text.
        """
        if not table.is_loop:
            pairs = self._pairs(table)
            values = {column: [_unquoted(pairs[column])] for column in table.columns}
            return pd.DataFrame({name: _numbers(name, pd.Series(value)) for name, value in values.items()})
        rows = self.text[table.start : table.stop]
        if b"#" in rows:
            rows = COMMENT.sub(b"", rows)
        if b"'" in rows:
            rows = SINGLE_QUOTED.sub(rb'"\1"', rows)
        if not table.columns or not rows or rows.isspace():
            return pd.DataFrame(columns=list(table.columns))
        text_columns = {place: str for place, column in enumerate(table.columns) if column in TEXT_COLUMNS}
        try:
            with warnings.catch_warnings(action="ignore", category=pd.errors.DtypeWarning):
                frame = pd.read_csv(
                    BytesIO(rows),
                    sep=r"\s+",
                    header=None,
                    index_col=False,
                    dtype=text_columns,
                    keep_default_na=False,
                    na_values=["nan", "NaN", "<NA>"],
                )
        except ValueError:
            # The library counts lines in its own way; say which row it is.
            self._check_counts(table, rows, -1)
            raise
        # A row that is too short is filled up with nothing, and an open quote takes in the rows after it.
        last = frame.iloc[:, -1]
        filled = last.isna() if pd.api.types.is_numeric_dtype(last) else last.isna() | (last == "")
        if frame.shape[1] != len(table.columns) or filled.any() or b'"' in rows:
            self._check_counts(table, rows, len(frame))
        return frame.set_axis(list(table.columns), axis="columns")

    def _check_counts(self, table: TableText, rows: bytes, found: int) -> None:
        """See that every row has as many values as the table has columns.

        Raises:
            ValueError: one has not, with its number.
        """
        lines = [line for line in rows.split(b"\n") if line and not line.isspace()]
        for number, line in enumerate(lines, start=1):
            values = VALUE.findall(line) if b'"' in line or b"'" in line else line.split()
            if len(values) != len(table.columns):
                raise ValueError(
                    f"row {number} of data_{table.name} has {len(values)} values, the table has {len(table.columns)} "
                    "columns"
                )
        if found != len(lines):
            raise ValueError(f"data_{table.name} has {len(lines)} rows, of which {found} can be read; is a quote open?")

    def _pairs(self, table: TableText) -> dict[str, bytes]:
        """Name and value of a table without loop, the value as it is written."""
        lines = (line.split(maxsplit=1) for line in self.text[table.start : table.stop].split(b"\n"))
        pairs = [(line[0], VALUE.match(line[1].strip()) if len(line) > 1 else None) for line in lines if line]
        return {
            name[1:].decode(errors="replace"): b"" if value is None else value.group()
            for name, value in pairs
            if name.startswith(b"_")
        }

    def edited(self, edits: Sequence[TableEdit]) -> Iterator[bytes]:
        """The bytes of the whole file with these changes, piece by piece.

        Raises:
            InputError: a row that the table does not have.
        """
        place = 0
        for edit in sorted(edits, key=lambda edit: edit.table.start):
            yield self.text[place : edit.table.start]
            yield from self._edited_rows(edit) if edit.table.is_loop else self._edited_pairs(edit)
            place = edit.table.stop
        yield self.text[place:]

    def _edited_rows(self, edit: TableEdit) -> Iterator[bytes]:
        lines = self.text[edit.table.start : edit.table.stop].split(b"\n")
        places = np.flatnonzero(self._is_row(edit.table))
        rows = np.arange(len(places)) if edit.rows is None else edit.rows
        if len(rows) and (rows.min() < 0 or rows.max() >= len(places)):
            raise InputError(f"{self.path}: no row {rows.max()} in data_{edit.table.name}, it has {len(places)}")
        added = [name for name in edit.values if name not in edit.table.columns]
        columns = {edit.table.columns.index(name): edit.values[name] for name in edit.values if name not in added}
        yield from (f"_{name} #{len(edit.table.columns) + 1 + i}\n".encode() for i, name in enumerate(added))
        for number, place in enumerate(places[rows].tolist()):
            line = lines[place]
            if edit.values:
                values = VALUE.findall(line) if b'"' in line or b"'" in line else line.split()
                for column, new in columns.items():
                    values[column] = _quoted(new[number])
                values += [_quoted(edit.values[name][number]) for name in added]
                line = b" ".join(values)
            yield line + b"\n"
        # What follows the last row: empty lines, and the comment above the next table.
        yield b"\n".join(lines[places[-1] + 1 if len(places) else 0 :])

    def _edited_pairs(self, edit: TableEdit) -> Iterator[bytes]:
        if edit.rows is not None and not np.array_equal(edit.rows, [0]):
            raise InputError(f"{self.path}: data_{edit.table.name} has one row; asked for rows {edit.rows.tolist()}")
        lines = self.text[edit.table.start : edit.table.stop].split(b"\n")
        for place, line in enumerate(lines):
            name = line.split()[0][1:].decode(errors="replace") if line.lstrip().startswith(b"_") else ""
            if name in edit.values:
                lines[place] = f"_{name} ".encode() + _quoted(edit.values[name][0])
        added = [name for name in edit.values if name not in edit.table.columns]
        place = max(i for i, line in enumerate(lines) if line.lstrip().startswith(b"_")) + 1
        lines[place:place] = [f"_{name} ".encode() + _quoted(edit.values[name][0]) for name in added]
        yield b"\n".join(lines)


def _table_starts(text: bytes) -> Iterator[int]:
    """Where lines begin that hold ``data_name`` and nothing else."""
    place = text.find(b"data_")
    while place >= 0:
        start, stop = text.rfind(b"\n", 0, place) + 1, text.find(b"\n", place)
        before = text[start:place].removeprefix(b"\xef\xbb\xbf")
        line = text[place : len(text) if stop < 0 else stop].split(b"#")[0]
        if not before.strip() and len(line.split()) == 1:
            yield place
        place = text.find(b"data_", place + 1)


def _numbers(name: str, column: pd.Series) -> pd.Series:
    if name in TEXT_COLUMNS:
        return column
    try:
        return pd.to_numeric(column)
    except ValueError:
        return column


def _unquoted(value: bytes) -> str:
    is_quoted = len(value) > 1 and value[:1] == value[-1:] and value[:1] in (b'"', b"'")
    return (value[1:-1] if is_quoted else value).decode()


def _quoted(value: str) -> bytes:
    return (f'"{value}"' if not value or re.search(r"\s", value) else value).encode()

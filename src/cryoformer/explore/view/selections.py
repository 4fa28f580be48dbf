"""Named selections: RUN/selections/NAME.npy (particles of the run from 0, ascending), exported as particle files."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from cryoformer.errors import InputError
from cryoformer.files import write_npy
from cryoformer.formats.particle_file import ParticleFile
from cryoformer.formats.select import write_selection
from cryoformer.run.run_folder import RunPaths

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,63}")


class Selections:
    """The selections of one run. Nothing is ever read or written outside its folder."""

    def __init__(self, run: Path, source: Callable[[], ParticleFile], count: int) -> None:
        """``source`` finds the particle file of the run, when it is wanted."""
        self.run, self.folder, self.count, self.source = run, run / "selections", count, source

    def names(self) -> list[dict[str, Any]]:
        """Name and number of particles of each, by name."""
        found = []
        for path in sorted(self.folder.glob("*.npy")):
            if NAME.fullmatch(path.stem):
                header = np.load(path, mmap_mode="r", allow_pickle=False)
                found.append({"name": path.stem, "count": int(header.size)})
        return found

    def save(self, name: str, rows: Int[np.ndarray, " m"]) -> Path:
        """Write a selection whole or not at all.

        Raises:
            InputError: a name with other characters than letters, digits, spaces, _ and -; no particles; or rows that
                the run does not have.
        """
        path = self._path(name, ".npy")
        rows = np.unique(rows.astype(np.int64))
        if not len(rows):
            raise InputError(f"selection '{name}' is empty: select particles first")
        if rows[0] < 0 or rows[-1] >= self.count:
            raise InputError(f"selection '{name}': rows {rows[0]} to {rows[-1]}; the run has {self.count}, from 0")
        write_npy(path, rows)
        return path

    def load(self, name: str) -> Int[np.ndarray, " m"]:
        """Rows of a selection.

        Raises:
            InputError: there is none of this name.
        """
        path = self._path(name, ".npy")
        if not path.is_file():
            raise InputError(f"there is no selection '{name}' in {self.folder}")
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.int64)

    def delete(self, name: str) -> None:
        """Forget a selection; what was exported from it stays."""
        self.load(name)
        self._path(name, ".npy").unlink()

    def export(self, name: str) -> Path:
        """The selection as a particle file of the input's own kind, with all its columns, beside the selection.

        Raises:
            InputError: no such selection, or the run's particle file is gone.
        """
        rows = RunPaths(self.run).read_rows(self.count)[self.load(name)]
        file = self.source()
        return write_selection(file, rows, self._path(name, file.suffix or ".npy"))

    def _path(self, name: str, suffix: str) -> Path:
        if not NAME.fullmatch(name):
            raise InputError(f"'{name}' cannot name a selection: use up to 64 letters, digits, spaces, _ and -")
        return self.folder / f"{name}{suffix}"

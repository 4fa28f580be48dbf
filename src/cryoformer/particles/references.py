"""References to images (``index@path`` in STAR files), resolved to stacks on disk.

RELION writes paths relative to its project folder, users move files, and the STAR file may stand anywhere. Each path
is looked for in a fixed order (see :func:`candidates`), and what was tried is said when nothing is found.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Integer

from cryoformer.errors import InputError
from cryoformer.particles.stack import ImageStacks, StackHeader, read_stack_header

# So many of the places that were tried are said.
MOST_PLACES = 12


@dataclass(frozen=True)
class ImageReferences:
    """For every row the number of its path in ``paths`` (as the file writes them) and its index there, from 0."""

    paths: tuple[str, ...]
    path_of_row: Integer[np.ndarray, " n"]
    index_of_row: Integer[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.index_of_row)

    def names_same_images(self, other: "ImageReferences") -> bool:
        """Whether both list the same images in the same order, of stacks of the same names in whichever folders."""
        if len(self) != len(other) or not np.array_equal(self.index_of_row, other.index_of_row):
            return False
        names = [np.array([Path(path).name for path in each.paths])[each.path_of_row] for each in (self, other)]
        return np.array_equal(*names)

    def subset(self, rows: Integer[np.ndarray, " m"]) -> "ImageReferences":
        return ImageReferences(self.paths, self.path_of_row[rows], self.index_of_row[rows])


def split_references(names: pd.Series, source: Path) -> ImageReferences:
    """Split ``index@path``.

    A name without ``@`` is the first image of its file, as in RELION.

    Raises:
        InputError: an index that is no whole number from 1 on, with its row.
    """
    parts = names.astype(str).str.strip().str.partition("@")
    alone = (parts[1] == "").to_numpy()
    index = pd.to_numeric(parts[0].where(~alone, "1"), errors="coerce").to_numpy(dtype=np.float64)
    bad = ~((index >= 1) & (index == np.floor(index)))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{source}: row {row + 1}: the image name '{names.iloc[row]}' does not start with a whole number from 1 "
            "on; expected index@path, such as 000001@particles.mrcs"
        )
    path_of_row, paths = pd.factorize(parts[2].where(~alone, parts[0]))
    return ImageReferences(tuple(str(path) for path in paths), path_of_row.astype(np.int32), index.astype(np.int64) - 1)


def candidates(reference: str, source: Path, datadir: Path | None) -> list[Path]:
    """Where a stack may lie, first choice first.

    Under ``datadir``, by the longest end of its path that leads to a file, down to its name alone; as written if
    absolute; relative to the STAR file's folder, or to one of the three folders above it (RELION's project folder is
    two above its job folders), as written and then by the ends of its path, for projects that have moved; and beside
    the STAR file by name alone. Where the STAR file is a link, the folder of what it links to counts too.
    """
    path = Path(reference)
    folders = list(dict.fromkeys((source.absolute().parent, source.resolve().parent)))
    bases = [base for folder in folders for base in (folder, *folder.parents[:3])]
    ends = path_ends(path)
    found = [] if datadir is None else [datadir / end for end in ends]
    found += [path] if path.is_absolute() else [base / path for base in bases]
    found += [base / end for end in ends[:-1] for base in bases]
    found += [folder / path.name for folder in folders]
    return list(dict.fromkeys(found))


def path_ends(path: Path) -> list[Path]:
    """The ends of a path, longest first: all of it (without the root), ..., the name alone."""
    parts = path.parts[1:] if path.is_absolute() else path.parts
    return [Path(*parts[start:]) for start in range(len(parts))]


def first_file(places: Sequence[Path]) -> Path | None:
    """The first of these that is a file."""
    for place in places:
        # A name can be too long for the file system to ask for.
        with contextlib.suppress(OSError):
            if place.is_file():
                return place
    return None


def find_stack(reference: str, source: Path, datadir: Path | None) -> Path | None:
    """Where the stack that ``source`` names lies, None where it is not on this machine."""
    return first_file(candidates(reference, source, datadir))


def written_paths(
    paths: tuple[str, ...], source: Path, target: Path, datadir: Path | None, beside: str = ""
) -> list[str]:
    """How a new file ``target`` shall name the stacks of ``source``.

    A path becomes relative to the folder of ``target`` where the stack lies in it, and absolute where it lies
    elsewhere. Stacks that are not on this machine keep the paths that they have.

    Args:
        beside: what stands before a path that is relative to the folder of ``target``.
    """
    folder = target.absolute().parent.resolve()
    written = []
    for path in paths:
        place = find_stack(path, source, datadir)
        if place is None:
            written.append(path)
            continue
        found = place.absolute().parent.resolve() / place.name
        inside = found.is_relative_to(folder)
        written.append(f"{beside}{found.relative_to(folder).as_posix()}" if inside else str(found))
    return written


def moved_paths(paths: tuple[str, ...], source: Path, target: Path, datadir: Path | None) -> dict[str, Path]:
    """Absolute paths of the stacks that a file ``target`` would not find, or not the same, as ``source`` does.

    Stacks that are not on this machine stay as they are written.
    """
    moved = {}
    for path in paths:
        old, new = find_stack(path, source, datadir), find_stack(path, target, None)
        if old is not None and (new is None or not new.samefile(old)):
            moved[path] = old.resolve()
    return moved


def resolve_stacks(references: Sequence[str], source: Path, datadir: Path | None) -> list[Path]:
    """The file of every reference.

    Raises:
        InputError: a stack is nowhere, with the places tried; or two references, found by name alone, mean one file.
    """
    if datadir is not None and not datadir.is_dir():
        raise InputError(f"--datadir {datadir}: no such folder; give the folder that holds the image stacks")
    readers: dict[Path, list[str]] = {}
    for reference in references:
        tried = candidates(reference, source, datadir)
        path = first_file(tried)
        if path is None:
            places = ", ".join(str(place) for place in tried[:MOST_PLACES])
            places += f" and {len(tried) - MOST_PLACES} more places" if len(tried) > MOST_PLACES else ""
            raise InputError(
                f"{source}: the image stack '{reference}' was not found (tried {places}); put it there or give the "
                "folder of the stacks as --datadir"
            )
        readers.setdefault(path, []).append(reference)
    for path, same in readers.items():
        # Two spellings of one path are fine. A stack found by name alone must not stand in for two.
        if len(same) > 1 and any(not str(path).endswith(str(Path(reference))) for reference in same):
            raise InputError(
                f"{source}: '{same[0]}' and '{same[1]}' are different stacks, but both would be read from {path}, "
                "found by name alone; give the folder that their paths are relative to as --datadir"
            )
    path_of = {reference: path for path, same in readers.items() for reference in same}
    return [path_of[reference] for reference in references]


def open_images(references: ImageReferences, source: Path, datadir: Path | None) -> ImageStacks:
    """Find and check the stacks of a particle file.

    Raises:
        InputError: a stack is missing, unreadable or cut short, or a row points past a stack's end.
    """
    paths = resolve_stacks(references.paths, source, datadir)
    headers = tuple(read_stack_header(path) for path in paths)
    _check_ends(headers, references.path_of_row, references.index_of_row, source)
    return ImageStacks(headers, references.path_of_row, references.index_of_row)


def _check_ends(
    headers: tuple[StackHeader, ...],
    stack_of_row: Integer[np.ndarray, " n"],
    index_of_row: Integer[np.ndarray, " n"],
    source: Path,
) -> None:
    counts = np.array([header.count for header in headers])
    past = index_of_row >= counts[stack_of_row]
    if past.any():
        row = int(np.flatnonzero(past)[0])
        header = headers[stack_of_row[row]]
        raise InputError(
            f"{source}: row {row + 1} asks for image {index_of_row[row] + 1} of {header.path}, which holds "
            f"{header.count}; {int(past.sum())} rows point past the end of their stack: is this the stack that belongs "
            "to the file?"
        )

"""Some particles of a file, written back in the format they came in, with everything that the file says of them."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from cryoformer.errors import InputError
from cryoformer.files import atomic_path
from cryoformer.formats.relion.star import particle_tables
from cryoformer.formats.relion.star_text import StarText, TableEdit
from cryoformer.particles.references import ImageReferences, candidates, first_file, split_references

logger = logging.getLogger(__name__)


def write_selection(source: Path, rows: Integer[np.ndarray, " m"], out: Path, datadir: Path | None = None) -> Path:
    """Write rows of a particle file, in this order, with every column and table of the file.

    A STAR file stays as it is but for the rows of its particle table: not one digit changes. An image path that would
    no longer lead to its stack from where ``out`` stands is made absolute. A ``.cs`` file keeps its fields and its
    paths, which cryoSPARC takes from its project folder; fields of the passthrough files beside it are joined in, and
    a ``.csg`` for cryoSPARC's "Import Result Group" is written with it. An ``out`` of ``.npy`` takes the rows' numbers
    alone, from any file.

    Args:
        source: the particle file (.star or .cs).
        rows: numbers from 0.
        out: the file to write, of the same format as ``source``.
        datadir: folder in which the image stacks of ``source`` were looked for first.

    Returns:
        ``out``.

    Raises:
        InputError: no rows, a row that the file does not have, another format, or a file that cannot be read.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if len(rows) == 0:
        raise InputError(f"{source}: the selection is empty; nothing was written")
    suffix, wanted = source.suffix.lower(), out.suffix.lower()
    if out.exists() and source.exists() and out.samefile(source):
        raise InputError(f"{out}: this is the file that the particles come from; give another --out")
    if wanted == ".npy":
        with atomic_path(out) as temporary:
            np.save(temporary, rows)
    elif suffix == wanted == ".star":
        _select_star(source, rows, out, datadir)
    elif suffix == wanted == ".cs":
        _select_cryosparc(source, rows, out)
    elif suffix in (".star", ".cs"):
        raise InputError(
            f"{out}: the particles come from a {suffix} file and keep its columns; give an --out that ends in {suffix} "
            "(and turn that into another format with cryoformer convert)"
        )
    else:
        raise InputError(
            f"{source}: rows of {suffix or 'this'} files cannot be written on; give an --out that ends in .npy for the "
            "rows' numbers, or turn the file into a .star with cryoformer convert and train on that"
        )
    return out


def _select_star(source: Path, rows: Integer[np.ndarray, " m"], out: Path, datadir: Path | None) -> None:
    star = StarText(source)
    table, _ = particle_tables(star)
    values = {}
    try:
        names = star.frame(table)["rlnImageName"]
    except ValueError as error:
        raise InputError(f"{source}: cannot be parsed as a STAR file ({error}); correct it") from error
    _check_rows(source, rows, len(names))
    references = split_references(names.iloc[rows], source)
    moved = moved_paths(references.paths, source, out, datadir)
    if moved:
        values["rlnImageName"] = moved_names(names.iloc[rows], references, moved)
        logger.info(
            "%s: paths of %d of %d stacks are written as absolute paths (such as %s), because they would not be found "
            "from there",
            out,
            len(moved),
            len(references.paths),
            next(iter(moved.values())),
        )
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        file.writelines(star.edited([TableEdit(table, rows, values)]))


def moved_names(names: Iterable[str], references: ImageReferences, moved: Mapping[str, Path]) -> list[str]:
    """``rlnImageName`` of the rows of ``references``, with the new paths of stacks that have one."""
    index_width = 6
    places = zip(names, references.path_of_row.tolist(), references.index_of_row.tolist(), strict=True)
    return [
        f"{index + 1:0{index_width}d}@{moved[path]}" if (path := references.paths[number]) in moved else name
        for name, number, index in places
    ]


def moved_paths(paths: tuple[str, ...], source: Path, out: Path, datadir: Path | None) -> dict[str, Path]:
    """Absolute paths of the stacks that a file ``out`` would not find, or not the same, as ``source`` does.

    Stacks that are not on this machine stay as they are written.
    """
    moved = {}
    for path in paths:
        old = first_file(candidates(path, source, datadir))
        new = first_file(candidates(path, out, None))
        if old is not None and (new is None or not new.samefile(old)):
            moved[path] = old.resolve()
    return moved


def _select_cryosparc(source: Path, rows: Integer[np.ndarray, " m"], out: Path) -> None:
    from cryoformer.formats.cryosparc.dataset import join_passthrough, read_dataset, write_csg, write_dataset

    dataset = read_dataset(source)
    _check_rows(source, rows, len(dataset))
    selected = join_passthrough(dataset.take(rows), source)
    write_dataset(selected, out)
    group = write_csg(out, selected.fields(), len(selected))
    logger.info("%s: import this in cryoSPARC with 'Import Result Group'", group)


def _check_rows(source: Path, rows: Integer[np.ndarray, " m"], count: int) -> None:
    if rows.min() < 0 or rows.max() >= count:
        wrong = rows.min() if rows.min() < 0 else rows.max()
        raise InputError(f"{source}: there is no row {wrong}; it has {count} particles, counted from 0")

"""Some particles of a file, written back in the format they came in, with everything that the file says of them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from cryoformer.errors import InputError
from cryoformer.files import atomic_path
from cryoformer.formats.load import open_particle_file
from cryoformer.formats.particle_file import NOTHING_ADDED, ParticleFile, same_file


def write_selection(
    source: Path | ParticleFile,
    rows: Integer[np.ndarray, " m"],
    out: Path,
    datadir: Path | None = None,
    added: Mapping[str, np.ndarray] = NOTHING_ADDED,
) -> Path:
    """Write rows of a particle file, in this order, with every column and table of the file.

    A STAR file stays as it is but for the rows of its particle table: not one digit changes. An image path that would
    no longer lead to its stack from where ``out`` stands is made absolute. A ``.cs`` file keeps its fields and its
    paths, which cryoSPARC takes from its project folder; fields of the passthrough files beside it are joined in, and
    a ``.csg`` for cryoSPARC's "Import Result Group" is written with it. An ``out`` of ``.npy`` takes the rows' numbers
    alone, from any file.

    Args:
        source: the particle file (.star, .cs, or cryoDRGN's, whose rows become pickles again).
        rows: numbers from 0.
        out: the file to write, of the same format as ``source``.
        datadir: folder in which the image stacks of ``source`` were looked for first.
        added: columns with a number for each of these rows that the file gets besides.

    Returns:
        ``out``.

    Raises:
        InputError: no rows, a row that the file does not have, another format, or a file that cannot be read.
    """
    rows = np.asarray(rows, dtype=np.int64)
    file = source if isinstance(source, ParticleFile) else open_particle_file(source, datadir)
    if len(rows) == 0:
        raise InputError(f"{file.path}: the selection is empty; nothing was written")
    if out.suffix.lower() == ".npy":
        with atomic_path(out) as temporary:
            np.save(temporary, rows)
        return out
    if same_file(out, file.path):
        raise InputError(f"{out}: this is the file that the particles come from; give another --out")
    file.write_rows(rows, out, added)
    return out

"""Which rows of a particle file to use: an indices file, a half-set, a random part."""

from pathlib import Path

import numpy as np
from jaxtyping import Int, Integer

from cryoformer.errors import InputError
from cryoformer.formats.cryodrgn.pickled_arrays import load_pickled_arrays
from cryoformer.particles.repeats import halves_together


def choose_rows(
    count: int,
    half_set: Integer[np.ndarray, " n"] | None,
    *,
    ind: Path | None = None,
    random: int | None = None,
    half: int | None = None,
    seed: int = 0,
    images: Int[np.ndarray, " n"] | None = None,
) -> Int[np.ndarray, " m"]:
    """Rows (from 0, ascending) that pass all that is asked: listed in ``ind``, of the half-set, then drawn at random.

    Args:
        count: number of particles n.
        half_set: 1 or 2 per particle where the file says so; otherwise the halves are drawn by ``seed``.
        ind: indices from 0 (see :func:`read_indices`).
        random: how many to draw, without replacement.
        half: 1 or 2.
        seed: of the draw; the same seed gives the same rows, and the same halves.
        images: number of each row's image: rows of one image belong to one half.

    Raises:
        InputError: a wrong indices file, a half that is neither 1 nor 2, or more rows asked for than there are.
    """
    rows = np.arange(count) if ind is None else read_indices(ind, count)
    if half is not None:
        if half not in (1, 2):
            raise InputError(f"--half {half}: expected 1 or 2")
        images = np.arange(count) if images is None else images
        if half_set is None:
            half_set = 1 + np.random.default_rng((seed, 1)).permutation(int(images.max()) + 1)[images] % 2
        half_set = halves_together(half_set, images)
        rows = rows[half_set[rows] == half]
    if random is not None:
        if not 0 < random <= len(rows):
            raise InputError(f"--random {random}: expected a number from 1 to {len(rows)}, the particles to draw from")
        rows = np.sort(np.random.default_rng(seed).choice(rows, random, replace=False))
    if len(rows) == 0:
        raise InputError("no particle passes --ind and --half; choose others")
    return rows.astype(np.int64)


def read_indices(path: Path, count: int) -> Int[np.ndarray, " m"]:
    """Indices from 0, ascending: a ``.npy`` (or one of n true/false values), a ``.txt`` with one a line, or a ``.pkl``.

    Raises:
        InputError: the file cannot be read, or an index is no whole number, out of range or listed twice.
    """
    values = _read_numbers(path)
    if values.dtype == bool and values.shape == (count,):
        return np.flatnonzero(values)
    if values.ndim != 1 or values.dtype.kind not in "iuf" or not np.array_equal(values, np.floor(values)):
        raise InputError(
            f"{path}: expected a list of whole numbers (rows, counted from 0), found {values.dtype} of shape "
            f"{values.shape}"
        )
    outside = values[~((values >= 0) & (values < count))]
    if len(outside):
        raise InputError(f"{path}: there is no row {outside[0]:g}; expected numbers from 0 to {count - 1}")
    rows, times = np.unique(values.astype(np.int64), return_counts=True)
    if (times > 1).any():
        raise InputError(f"{path}: row {rows[times > 1][0]} is listed twice; list each once")
    return rows


def _read_numbers(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if suffix == ".txt":
            lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
            return np.array([int(line) for line in lines if line], dtype=np.int64)
    except Exception as error:
        # The header of a .npy file is an expression of Python's syntax, and its parser has many ways to fail.
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as indices ({reason}); expected one whole number a line") from error
    if suffix == ".pkl":
        arrays = load_pickled_arrays(path)
        if len(arrays) != 1:
            raise InputError(f"{path}: holds {len(arrays)} arrays; expected one, of indices")
        return arrays[0]
    raise InputError(f"{path}: expected indices as .npy, as .txt with one a line, or as cryoDRGN's .pkl")

"""Volumes of any program with a class or a latent per image: cryoSPARC, RELION, RECOVAR and others.

A folder holds the volumes (``.mrc``, numbered by their names) and a table with one row per particle:

classes    ``.npy`` of whole numbers; ``.csv`` with a column ``class``; RELION's ``.star`` (rlnClassNumber); cryoSPARC's
           ``.cs`` (a class, or the most probable one). A particle shows the volume of its class's number.
latents    ``.npy`` [n, k] or ``.csv`` with k columns, and ``volume_latents.npy`` [m, k], where each volume stands. A
           particle shows the volume that stands nearest to it.

Rows are in the order of the stack's particle file; where a STAR or ``.cs`` file says which image of one stack a row is,
they are brought into that order.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cryoformer.decode.volume_source import VolumeSource, nearest_latents
from cryoformer.errors import InputError
from cryoformer.files import read_mrc_volume
from cryoformer.formats.load import TABLES, open_particle_file

logger = logging.getLogger(__name__)

VOLUME_LATENTS = "volume_latents.npy"
TABLE_SUFFIXES = (".npy", ".csv", *TABLES)


def open_volume_folder(folder: Path, table: Path | None = None) -> tuple[VolumeSource, int, float]:
    """Volumes and their table, the only one of the folder if none is given; their box and pixel size (Angstrom).

    Raises:
        InputError: no volumes, no table or several, or they do not belong together.
    """
    files = sorted(folder.glob("*.mrc"), key=volume_number)
    if not files:
        raise InputError(f"{folder}: holds no .mrc volumes; give a run, a baseline, or a folder of volumes")
    table = table or _only_table(folder)
    classes, latents = read_table(table)
    if latents is None:
        assert classes is not None
        rows = _volumes_of_classes(classes, files, table)
        # Classes are corners of a simplex: equally far from one another.
        places = np.eye(len(files))
        latents = places[rows]
    else:
        places = _read_npy(folder / VOLUME_LATENTS)
        if places.shape != (len(files), latents.shape[1]):
            raise InputError(
                f"{folder / VOLUME_LATENTS}: shape {places.shape}, expected ({len(files)}, {latents.shape[1]}): where "
                f"each volume stands among the latents of {table.name}, in the order of the volumes' numbers"
            )
        places = places.astype(np.float64)
    volume, pixel_size = read_mrc_volume(files[0])
    if len(set(volume.shape)) != 1 or pixel_size <= 0:
        raise InputError(
            f"{files[0]}: shape {volume.shape}, pixel size {pixel_size:g} A; expected a cube with its pixel size"
        )

    def nearest(points: Float[np.ndarray, "m k"]) -> Iterator[Float[np.ndarray, "d d d"]]:
        return (read_mrc_volume(files[index])[0] for index in nearest_latents(places, points))

    return VolumeSource(folder.name, latents, nearest), len(volume), pixel_size


def volume_number(path: Path) -> int:
    """The number that a volume's name gives it: after "class" if that is there, else the last one (0 without any)."""
    found = re.findall(r"class_?(\d+)", path.stem) or re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else 0


def read_table(path: Path) -> tuple[Int[np.ndarray, " n"] | None, Float[np.ndarray, "n k"] | None]:
    """Classes or latents, one row per particle; the other is None.

    Raises:
        InputError: the file cannot be read, or has neither.
    """
    suffix = path.suffix.lower()
    if suffix in TABLES:
        return _classes(path), None
    if suffix == ".npy":
        values = _read_npy(path)
    elif suffix == ".csv":
        values = _read_csv(path)
    else:
        raise InputError(f"{path}: expected a table of classes or latents ({', '.join(TABLE_SUFFIXES)})")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (1, 2) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise InputError(f"{path}: {values.dtype} of shape {values.shape}, expected finite numbers, one row a particle")
    if values.ndim == 2:
        return None, values.astype(np.float64)
    if not np.array_equal(values, np.floor(values)):
        return None, values.astype(np.float64)[:, None]
    return values.astype(np.int64), None


def _only_table(folder: Path) -> Path:
    tables = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in TABLE_SUFFIXES]
    tables = [path for path in tables if path.name != VOLUME_LATENTS]
    if len(tables) != 1:
        names = ", ".join(path.name for path in tables) or "none"
        raise InputError(
            f"{folder}: expected one table of classes or latents beside the volumes, found {names}; name it as "
            f"NAME={folder},TABLE"
        )
    return tables[0]


def _volumes_of_classes(classes: Int[np.ndarray, " n"], files: list[Path], table: Path) -> Int[np.ndarray, " n"]:
    """Index of each particle's volume; numbers may begin at 0 in one place and at 1 in the other."""
    numbers = np.array([volume_number(path) for path in files])
    if len(np.unique(numbers)) != len(numbers):
        raise InputError(f"{files[0].parent}: two volumes have one number in their names; give each its class's number")
    for shift in (0, 1, -1):
        if np.isin(classes + shift, numbers).all():
            if shift:
                logger.info("%s: class %d is volume %s", table, classes[0], files[0].parent / f"...{numbers[0]}.mrc")
            return np.searchsorted(numbers, classes + shift).astype(np.int64)
    missing = int(np.setdiff1d(classes, numbers)[0])
    raise InputError(f"{table}: there is no volume for class {missing}; found volumes {', '.join(map(str, numbers))}")


def _classes(path: Path) -> Int[np.ndarray, " n"]:
    file = open_particle_file(path)
    classes = file.classes()
    if not file.lists_images or len(file.references.paths) != 1:
        return classes
    return _in_stack_order(classes, file.references.index_of_row)


def _in_stack_order(classes: Int[np.ndarray, " n"], index: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Classes by image of the stack, where the rows are all of its images in some order; else as they are."""
    if not np.array_equal(np.sort(index), np.arange(len(index))):
        return classes
    ordered = np.empty_like(classes)
    ordered[index] = classes
    return ordered


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as numbers in .npy form ({error})") from None


def _read_csv(path: Path) -> np.ndarray:
    try:
        table = pd.read_csv(path)
        if all(re.fullmatch(r"[-+.\deE]+", str(name)) for name in table.columns):
            table = pd.read_csv(path, header=None)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})") from None
    return table["class"].to_numpy() if "class" in table else table.to_numpy()

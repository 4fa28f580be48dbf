"""Files on disk: written whole or not at all; JSON, arrays, and MRC volumes with an honest header."""

import errno
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from jaxtyping import Float, Float32

from cryoformer.errors import InputError

NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "the file is larger than the file system allows",
}
NOT_ALLOWED = {
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "the name is too long",
}


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name once the block has ended without an error.

    So a reader, or a run that is resumed, never meets a half-written file. The temporary name keeps the suffix,
    because some writers (``numpy.savez``) add theirs otherwise. Missing folders are made.

    The file gets the permissions that the umask gives, whatever its writer thinks of (safetensors writes for its owner
    alone).

    Raises:
        InputError: the folder cannot be made or written to, or the disk is full.
    """
    target = Path(path)
    make_folder(target.parent)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        if temporary.stat().st_mode != mode:
            temporary.chmod(mode)
        temporary.replace(target)
    except OSError as error:
        # NumPy says a write that ended early without a number: a full disk, a quota, or a limit on the size of files.
        if error.errno in NO_ROOM or error.errno in NOT_ALLOWED or error.errno is None:
            raise InputError(f"cannot write {target}: {reason(error)}") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """A folder that can be written to.

    Raises:
        InputError: it cannot be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {reason(error)}; give another output") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to the folder {folder}: no permission; give another output")


def check_output(folder: Path, needed_bytes: int = 0) -> None:
    """See before the work that a folder could be made and written to, and that its disk has room; nothing is made.

    Args:
        needed_bytes: what will be written, roughly.

    Raises:
        InputError: not so.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
    if not there.is_dir():
        raise InputError(f"cannot make the folder {folder}: {there} is no folder; give another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to the folder {there}: no permission; give another --out")
    free = shutil.disk_usage(there).free
    if free < needed_bytes:
        raise InputError(
            f"{folder}: the disk is full: {free / 2**20:.0f} MiB are free, some {needed_bytes / 2**20:.0f} MiB are "
            "needed; make room, or give another output"
        )


def check_empty(folder: Path) -> None:
    """See that nothing is lost where a folder is written to.

    Raises:
        InputError: there is something in it already, or it is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is not empty; remove it, or choose another folder")


def reason(error: OSError) -> str:
    """Why the system refused something, and what to do."""
    if error.errno in NO_ROOM or error.errno is None:
        why = f"it ended early, at a full disk or a limit ({error})" if error.errno is None else NO_ROOM[error.errno]
        return f"{why}; make room and give the command again (train: with --resume)"
    return NOT_ALLOWED.get(error.errno or 0) or error.strerror or str(error)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file (UTF-8)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, facts: Any, allow_nan: bool = False) -> None:
    """Write plain values, readable by people too.

    Raises:
        ValueError: a number that JSON does not know, unless ``allow_nan``.
    """
    write_text(path, json.dumps(facts, indent=1, allow_nan=allow_nan) + "\n")


def read_json(path: Path, what_to_do: str = "remove it, and what it belongs to is made anew") -> dict[str, Any]:
    """The names and values of a JSON file.

    Raises:
        InputError: it cannot be read, or holds something else; ``what_to_do`` ends the message.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); {what_to_do}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected names and values; {what_to_do}")
    return found


def write_npz(path: Path | str, **arrays: Any) -> None:
    """Write named arrays."""
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)


def write_npy(path: Path | str, array: np.ndarray) -> None:
    """Write one array."""
    with atomic_path(path) as temporary:
        np.save(temporary, array)


def read_mrc_volume(path: Path | str) -> tuple[Float32[np.ndarray, "z y x"], float]:
    """A density map ``[z, y, x]`` as float32 and its pixel size in Angstrom (0 where the header has none).

    Maps whose header stores the axes in another order are turned to z, y, x.

    Raises:
        InputError: the file is missing, is no MRC file, is cut short or holds no volume.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an MRC volume")
    try:
        # Permissive, and quiet about it: common tools leave the map identifier or the machine stamp empty.
        with warnings.catch_warnings(action="ignore"), mrcfile.open(path, permissive=True) as mrc:
            if mrc.data is None:
                raise ValueError("its size does not fit its header: it may be cut short")
            order = [int(mrc.header[name]) for name in ("maps", "mapr", "mapc")]
            pixel_size = float(mrc.voxel_size.x)
            volume = np.array(mrc.data, dtype=np.float32)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as an MRC volume ({reason}); write the file anew") from error
    if volume.ndim != 3:
        raise InputError(f"{path}: expected a volume, found {volume.ndim} dimensions of shape {volume.shape}")
    if sorted(order) == [1, 2, 3] and order != [3, 2, 1]:
        volume = np.ascontiguousarray(np.transpose(volume, [order.index(axis) for axis in (3, 2, 1)]))
    return volume, pixel_size


def write_mrc_volume(path: Path | str, volume: Float[np.ndarray, "z y x"], pixel_size_angstrom: float) -> None:
    """Write a density map ``[z, y, x]`` in float32, whole or not at all.

    The header carries the pixel size, the density statistics and an origin of 0, as the maps of RELION, cryoSPARC and
    cryoDRGN do: maps of a run lie on those of the refinement that its particles come from, and a model that was built
    in one of them fits the others. The rotation centre is voxel ``size // 2`` of each axis.
    """
    with atomic_path(path) as temporary, mrcfile.new(temporary, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(volume, dtype=np.float32))
        mrc.set_volume()
        mrc.voxel_size = pixel_size_angstrom

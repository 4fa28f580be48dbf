"""Stacks compressed with gzip or bzip2: nothing can be read from their middle, so they are decompressed once."""

import bz2
import gzip
import logging
import shutil
import tempfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cryoformer.errors import InputError

logger = logging.getLogger(__name__)

OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}


def uncompressed(path: Path) -> Path:
    """The file itself, or a decompressed copy in the system's temporary folder, which goes when the program ends.

    Raises:
        InputError: damaged data, or no room for the copy.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(2)
    if start not in OPENERS:
        return path
    return _decompressed(path, start, path.stat().st_mtime_ns)


@cache
def _decompressed(path: Path, start: bytes, modified_ns: int) -> Path:
    folder = _temporary_folder().name
    logger.info("%s: decompressed into %s for this run; decompress it yourself to save the time", path, folder)
    try:
        with (
            OPENERS[start](path, "rb") as compressed,
            tempfile.NamedTemporaryFile(dir=folder, suffix=".mrcs", delete=False) as copy,
        ):
            shutil.copyfileobj(compressed, copy, 2**20)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: cannot be decompressed into {folder} ({error}); copy it again, or decompress it by hand where "
            "there is room"
        ) from error
    return Path(copy.name)


@cache
def _temporary_folder() -> tempfile.TemporaryDirectory:
    """Kept by the cache of this function, and removed with it."""
    return tempfile.TemporaryDirectory(prefix="cryoformer-")

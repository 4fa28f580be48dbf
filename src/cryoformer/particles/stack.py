"""Image stacks on disk: MRC headers, and the images of any rows of a particle table.

Nothing is read but the headers until images are asked for, and then only the asked rows, so a stack may be far
larger than the memory. Rows are read from the file at their offset rather than through a memory map: it is as fast,
the pages do not pile up in the process, and a failing disk is an error instead of a killed process.
"""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import FileIO
from itertools import pairwise
from pathlib import Path

import mrcfile
import numpy as np
from jaxtyping import Float32, Integer
from mrcfile.utils import data_dtype_from_header

from cryoformer.errors import InputError

READABLE_MODES = {0: "int8", 1: "int16", 2: "float32", 6: "uint16", 12: "float16"}


@dataclass(frozen=True)
class StackHeader:
    """What the header of one MRC stack says; ``pixel_size_angstrom`` is 0 where it says nothing.

    ``modified_ns`` is the time of the file's last change: a stack that was written anew is another stack.
    """

    path: Path
    count: int
    box: int
    dtype: np.dtype
    offset: int
    pixel_size_angstrom: float
    modified_ns: int

    @property
    def image_bytes(self) -> int:
        return self.box * self.box * self.dtype.itemsize


def read_stack_header(path: Path) -> StackHeader:
    """Header of an MRC stack, checked against the size of the file.

    Raises:
        InputError: no MRC file, a pixel type that is no image, images that are not square, or a file cut short.
    """
    try:
        # Quietly: many tools leave the map identifier or the machine stamp of a stack empty.
        with warnings.catch_warnings(action="ignore"):
            with mrcfile.open(path, permissive=True, header_only=True) as mrc:
                header = mrc.header
            mode = int(header.mode)
            dtype = data_dtype_from_header(header) if mode in READABLE_MODES else None
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as an MRC stack ({reason}); copy or extract it again") from error
    if dtype is None:
        modes = ", ".join(f"{number} ({name})" for number, name in READABLE_MODES.items())
        raise InputError(f"{path}: MRC mode {mode} cannot be read as images; expected one of {modes}")
    columns, rows, count = int(header.nx), int(header.ny), int(header.nz)
    if columns != rows or columns < 1:
        raise InputError(f"{path}: images of {columns} x {rows} pixels; expected square images, extract them again")
    pixel_size = float(header.cella.x) / int(header.mx) if header.mx > 0 else 0.0
    status = path.stat()
    stack = StackHeader(path, count, columns, dtype, 1024 + int(header.nsymbt), pixel_size, status.st_mtime_ns)
    expected = stack.offset + count * stack.image_bytes
    if status.st_size < expected:
        whole = max(status.st_size - stack.offset, 0) // stack.image_bytes
        raise InputError(
            f"{path}: cut short: the header promises {count} images ({expected} bytes), the file has "
            f"{status.st_size} bytes ({whole} whole images); copy it again"
        )
    return stack


@lru_cache(maxsize=128)
def _open_stack(header: StackHeader) -> FileIO:
    """The open file. The cache bounds how many stay open in data sets of many small stacks.

    One that falls out of the cache is closed when its last reader lets go of it.
    """
    return open(header.path, "rb", buffering=0)


def read_stack(header: StackHeader, indices: Integer[np.ndarray, " b"]) -> Float32[np.ndarray, "b d d"]:
    """Images of one stack; ``indices`` count from 0 and ascend, so that neighbours are read at one go.

    Raises:
        InputError: the file can no longer be read as its header promised.
    """
    images = np.empty((len(indices), header.box, header.box), dtype=header.dtype)
    starts = np.flatnonzero(np.diff(indices, prepend=-2) != 1).tolist()
    try:
        stack = _open_stack(header)
        for start, stop in pairwise([*starts, len(indices)]):
            buffer = images[start:stop].reshape(-1).view(np.uint8).data
            position = header.offset + int(indices[start]) * header.image_bytes
            # One call reads at most some 2 GB.
            while len(buffer):
                count = os.preadv(stack.fileno(), [buffer], position)
                if count == 0:
                    raise OSError("it ends before its last image")
                buffer, position = buffer[count:], position + count
    except OSError as error:
        raise InputError(f"{header.path}: cannot be read ({error}); it changed or its disk failed") from error
    return images.astype(np.float32)


@dataclass(frozen=True)
class ImageStacks:
    """The images of a particle table: for every row, which stack and which image in it (counted from 0)."""

    headers: tuple[StackHeader, ...]
    stack_of_row: Integer[np.ndarray, " n"]
    index_of_row: Integer[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.index_of_row)

    @property
    def box(self) -> int:
        return self.headers[0].box

    @cached_property
    def disk_order(self) -> Integer[np.ndarray, " n"]:
        """All rows, in the order in which their images lie on disk."""
        return np.lexsort((self.index_of_row, self.stack_of_row))

    def name(self, row: int) -> str:
        """``index@path`` of a row, the index counted from 1 as in STAR files."""
        return f"{self.index_of_row[row] + 1}@{self.headers[self.stack_of_row[row]].path}"

    def subset(self, rows: Integer[np.ndarray, " m"]) -> "ImageStacks":
        return ImageStacks(self.headers, self.stack_of_row[rows], self.index_of_row[rows])

    def read(self, rows: Integer[np.ndarray, " b"]) -> Float32[np.ndarray, "b d d"]:
        """Images of these rows, as on disk (any values, NaN included), in the order asked for.

        The reading goes in disk order, whatever the order of ``rows``.
        """
        images = np.empty((len(rows), self.box, self.box), dtype=np.float32)
        stacks, indices = self.stack_of_row[rows], self.index_of_row[rows]
        order = np.lexsort((indices, stacks))
        starts = np.flatnonzero(np.diff(stacks[order], prepend=-1)).tolist()
        for start, stop in pairwise([*starts, len(rows)]):
            places = order[start:stop]
            images[places] = read_stack(self.headers[stacks[places[0]]], indices[places])
        return images

    def chunks(self, rows_per_chunk: int) -> Iterator[tuple[Integer[np.ndarray, " b"], Float32[np.ndarray, "b d d"]]]:
        """All rows in disk order, a chunk at a time: (rows, images)."""
        for start in range(0, len(self), rows_per_chunk):
            rows = self.disk_order[start : start + rows_per_chunk]
            yield rows, self.read(rows)

"""Image stacks on disk: MRC headers, and the images of any rows of a particle table.

Nothing is read but the headers until images are asked for, and then only the asked rows, so a stack may be far
larger than the memory. Compressed stacks are decompressed once, into a temporary folder. Rows are read from the file
at their offset rather than through a memory map: it is as fast, the pages do not pile up in the process, and a failing
disk is an error instead of a killed process.
"""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO, FileIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Integer
from mrcfile.mrcinterpreter import MrcInterpreter
from mrcfile.utils import data_dtype_from_header

from cryoformer.errors import InputError
from cryoformer.particles.compressed import uncompressed

HEADER_BYTES = 1024
EXTENSION_LENGTH = slice(92, 96)
# In mrcfile's field ``extra2``, which starts at byte 112.
IMOD_FLAGS, IMOD_STAMP = slice(40, 48), 1146047817

OTHER_KINDS = {
    b"II*\0": "a TIFF file",
    b"MM\0*": "a TIFF file",
    b"II+\0": "a TIFF file",
    b"MM\0+": "a TIFF file",
    b"\x89HDF": "an HDF5 file (EMAN)",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x93NUMPY": "a NumPy file",
    b"PK\x03\x04": "a ZIP archive",
    b"data_": "a STAR file",
    b"\n# version": "a STAR file",
    b"# version": "a STAR file",
}
OTHER_SUFFIXES = {
    ".hed": "an IMAGIC file",
    ".img": "an IMAGIC file",
    ".spi": "a SPIDER file",
    ".dm4": "a DigitalMicrograph file",
}

READABLE_MODES = {0: "int8", 1: "int16", 2: "float32", 6: "uint16", 12: "float16"}


@dataclass(frozen=True)
class StackHeader:
    """What the header of one MRC stack says; ``pixel_size_angstrom`` is 0 where it says nothing.

    ``modified_ns`` is the time of the file's last change: a stack that was written anew is another stack. ``file`` is
    what is read: ``path`` itself, or where it was decompressed to.
    """

    path: Path
    file: Path
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
        file = uncompressed(path)
        with file.open("rb") as stream:
            head = bytearray(stream.read(HEADER_BYTES))
        _check_kind(path, bytes(head))
        header, extension = _parse_header(head)
        status = path.stat()
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read it; ask its owner for it") from error
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as an MRC stack ({reason}); copy or extract it again") from error
    mode, dtype = int(header.mode), _pixel_type(header)
    if dtype is None:
        modes = ", ".join(f"{number} ({name})" for number, name in READABLE_MODES.items())
        raise InputError(f"{path}: MRC mode {mode} cannot be read as images; expected one of {modes}")
    columns, rows, count = int(header.nx), int(header.ny), int(header.nz)
    if columns != rows or columns < 1:
        raise InputError(f"{path}: images of {columns} x {rows} pixels; expected square images, extract them again")
    if count < 1 or extension < 0:
        raise InputError(
            f"{path}: the header says {count} images after an extended header of {extension} bytes; extract it again"
        )
    pixel_size = float(header.cella.x) / int(header.mx) if header.mx > 0 else 0.0
    offset = HEADER_BYTES + extension
    stack = StackHeader(path, file, count, columns, dtype, offset, pixel_size, status.st_mtime_ns)
    size, expected = file.stat().st_size, offset + count * stack.image_bytes
    if size < expected:
        whole = max(size - offset, 0) // stack.image_bytes
        raise InputError(
            f"{path}: cut short: the header promises {count} images ({expected} bytes), the file has "
            f"{size} bytes ({whole} whole images); copy it again"
        )
    return stack


def _check_kind(path: Path, head: bytes) -> None:
    """Refuse files of other kinds by how they begin, before their bytes are taken for numbers of pixels.

    Raises:
        InputError: another kind of file.
    """
    kind = next((kind for start, kind in OTHER_KINDS.items() if head.startswith(start)), None)
    kind = kind or OTHER_SUFFIXES.get(path.suffix.lower())
    if kind is not None:
        raise InputError(
            f"{path}: is {kind}; only MRC stacks are read: convert it with e2proc2d.py (EMAN2) or relion_preprocess"
        )


def _parse_header(head: bytearray) -> tuple[np.recarray, int]:
    """The header, in whichever byte order, and the length of the extended header.

    That length is taken out of what mrcfile sees, which would read (and make room for) all that it promises.
    """
    length = bytes(head[EXTENSION_LENGTH])
    head[EXTENSION_LENGTH] = bytes(4)
    # Quietly: many tools leave the map identifier or the machine stamp of a stack empty.
    with warnings.catch_warnings(action="ignore"):
        header = MrcInterpreter(BytesIO(bytes(head)), permissive=True, header_only=True).header
    if header is None:
        raise ValueError("no MRC header")
    return header, int(np.frombuffer(length, dtype=header.nsymbt.dtype)[0])


def _pixel_type(header: np.recarray) -> np.dtype | None:
    mode = int(header.mode)
    if mode not in READABLE_MODES:
        return None
    extra = header.extra2.tobytes()
    # Mode 0 is signed, but not in what IMOD writes unless its second flag word says so.
    stamp, flags = np.frombuffer(extra[IMOD_FLAGS], dtype=header.mode.dtype).tolist()
    if mode == 0 and stamp == IMOD_STAMP and not flags & 1:
        return np.dtype(np.uint8)
    return np.dtype(data_dtype_from_header(header))


@lru_cache(maxsize=128)
def _open_stack(header: StackHeader) -> FileIO:
    """The open file. The cache bounds how many stay open in data sets of many small stacks.

    One that falls out of the cache is closed when its last reader lets go of it.
    """
    return open(header.file, "rb", buffering=0)


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

    @cached_property
    def boxes(self) -> Integer[np.ndarray, " n"]:
        """Image side of every row: optics groups may differ."""
        return np.array([header.box for header in self.headers])[self.stack_of_row]

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

        The rows must share one box (:meth:`by_box` parts those that do not). The reading goes in disk order, whatever
        the order of ``rows``.
        """
        box = int(self.boxes[rows[0]]) if len(rows) else 0
        images = np.empty((len(rows), box, box), dtype=np.float32)
        stacks, indices = self.stack_of_row[rows], self.index_of_row[rows]
        order = np.lexsort((indices, stacks))
        starts = np.flatnonzero(np.diff(stacks[order], prepend=-1)).tolist()
        for start, stop in pairwise([*starts, len(rows)]):
            places = order[start:stop]
            images[places] = read_stack(self.headers[stacks[places[0]]], indices[places])
        return images

    def by_box(self, rows: Integer[np.ndarray, " b"]) -> Iterator[Integer[np.ndarray, " p"]]:
        """Places in ``rows`` of those that share a box, one box after the other."""
        boxes = self.boxes[rows]
        for box in np.unique(boxes):
            yield np.flatnonzero(boxes == box)

    def chunks(self, chunk_bytes: int) -> Iterator[tuple[Integer[np.ndarray, " b"], Float32[np.ndarray, "b d d"]]]:
        """All rows in disk order, a chunk of one box and about this many float32 bytes at a time: (rows, images)."""
        for places in self.by_box(self.disk_order):
            rows = self.disk_order[places]
            count = max(1, chunk_bytes // (4 * int(self.boxes[rows[0]]) ** 2))
            for start in range(0, len(rows), count):
                yield rows[start : start + count], self.read(rows[start : start + count])

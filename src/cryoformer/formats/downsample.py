"""Downsampling: every image of a particle file Fourier-cropped to a smaller box, and the file that goes with them.

Cropping keeps the coefficients below the new Nyquist frequency, so the image stays what it was up to that resolution;
the origin goes from pixel ``D // 2`` of the old box to pixel ``D // 2`` of the new one, and a particle stays where it
is in Angstrom. Values keep their mean, as in RELION (``relion_image_handler --rescale_angpix``).

Images are read and written in the order in which they lie on disk, a chunk at a time; each one that the file names is
written once, however many rows name it. A run that was stopped goes on where it stood.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int

from cryoformer.errors import InputError
from cryoformer.files import atomic_path
from cryoformer.formats.load import open_particle_file
from cryoformer.formats.particle_file import ParticleFile, same_file
from cryoformer.imaging.fourier import crop_fourier, frequencies
from cryoformer.particles.particles import check_finite
from cryoformer.particles.read_ahead import read_ahead
from cryoformer.particles.stack import ImageStacks
from cryoformer.particles.stack_writer import StackStatistics, StackWriter

logger = logging.getLogger(__name__)

# float32 bytes of the images in work at one time; the transforms take a few times as much.
CHUNK_BYTES = 32 * 2**20
RECORD = "downsample.json"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class UniqueImages:
    """The images that rows name, each once, in disk order: a row that names it, and for every row its number."""

    row_of_image: Int[np.ndarray, " m"]
    image_of_row: Int[np.ndarray, " n"]


def downsample(
    source: Path,
    box: int,
    folder: Path,
    *,
    datadir: Path | None = None,
    dtype: str | None = None,
    per_file: int | None = None,
    progress: Progress = lambda done, count: None,
) -> Path:
    """Fourier-crop every image of a particle file to ``box`` pixels.

    Args:
        source: particle file (.star or .cs); poses are not needed.
        box: the new image side, even, no larger than any image.
        folder: for the stacks, the particle file (written last, so its presence means that all is there) and the
            record from which a stopped run goes on.
        datadir: folder to look for the image stacks in first.
        dtype: float16 or float32; that of the input where None (float32 for integers).
        per_file: images per stack; all in one where None.
        progress: called with the number of images done and their number.

    Returns:
        The new particle file, ``particles.star`` or ``particles.cs`` in ``folder``.

    Raises:
        InputError: a box that does not fit, too little room on the disk, a folder in use, or unreadable images.
    """
    table = open_particle_file(source, datadir)
    if not table.can_be_downsampled:
        raise InputError(
            f"{source}: only .star and .cs files can be downsampled; turn it into a .star with cryoformer convert first"
        )
    pixel_sizes = table.pixel_sizes_angstrom
    _check_box(table, box)
    images = unique_images(table.stacks)
    wanted = np.dtype(dtype or _dtype_of(table.stacks))
    count = len(images.row_of_image)
    target = folder / table.posed_name
    if same_file(target, table.path):
        raise InputError(f"{folder}: holds the file to downsample; give another --out")
    writer = _writer(table.stacks, pixel_sizes, images, folder, box, wanted, min(per_file or count, count))
    facts = _facts(table, writer)
    _go_on(folder, facts, writer, target)
    _check_room(folder, (count - writer.done) * box * box * wanted.itemsize)
    if writer.done < count:
        _record(folder, facts, writer)
        logger.info("%s: %d images to %d pixels, %s", folder, count, box, wanted)
    pieces = _pieces(table.stacks, images.row_of_image[writer.done :], CHUNK_BYTES)
    for rows, chunk in read_ahead(table.stacks.read, pieces, ahead=1):
        check_finite(chunk, rows, table.stacks, source)
        smaller = crop_images(chunk, box)
        writer.write(smaller)
        _record(folder, facts, writer)
        progress(writer.done, count)
    writer.finish()
    return table.write_downsampled(target, box, writer.paths, images.image_of_row, writer.per_file)


def crop_images(images: Float32[np.ndarray, "b d d"], box: int) -> Float32[np.ndarray, "b e e"]:
    """Fourier crop to a smaller, even box; origin ``D // 2`` to origin ``D // 2``, the mean kept.

    Between two even boxes the phases of the two origins cancel, so no pixel needs to be moved.
    """
    side = images.shape[-1]
    if side == box:
        return images
    cropped = crop_fourier(torch.fft.rfft2(torch.from_numpy(images)), side, box)
    if side % 2:
        ky, kx = frequencies(box)
        # exp(2 pi i k c / side) exp(-i pi k) with c = (side - 1) / 2: from the corner to the centre and back.
        cropped = cropped * torch.polar(torch.ones(()), -torch.pi / side * (ky + kx))
    smaller = torch.fft.irfft2(cropped, s=(box, box), norm="backward").mul_((box / side) ** 2)
    return np.asarray(smaller.numpy())


def unique_images(stacks: ImageStacks) -> UniqueImages:
    """The different images of a table, in the order in which they lie on disk."""
    order = stacks.disk_order
    stack, index = stacks.stack_of_row[order], stacks.index_of_row[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (np.diff(stack) != 0) | (np.diff(index) != 0)
    image_of_row = np.empty(len(order), dtype=np.int64)
    image_of_row[order] = np.cumsum(is_first) - 1
    return UniqueImages(order[is_first].astype(np.int64), image_of_row)


def _pieces(stacks: ImageStacks, rows: Int[np.ndarray, " m"], chunk_bytes: int) -> Iterator[Int[np.ndarray, " b"]]:
    """Rows that are in disk order, in pieces of one box and about this many bytes."""
    for run in np.split(rows, np.flatnonzero(np.diff(stacks.boxes[rows])) + 1) if len(rows) else []:
        size = max(1, chunk_bytes // (4 * int(stacks.boxes[run[0]]) ** 2))
        yield from (run[start : start + size] for start in range(0, len(run), size))


def _check_box(table: ParticleFile, box: int) -> None:
    if box < 2 or box % 2:
        raise InputError(f"--box {box}: expected an even number of pixels, 2 or more")
    smallest = int(table.stacks.boxes.min())
    if box > smallest:
        row = int(table.stacks.boxes.argmin())
        raise InputError(
            f"{table.path}: row {row + 1}: its image has {smallest} pixels, --box {box} would make it larger; give "
            f"{smallest} or less"
        )


def _dtype_of(stacks: ImageStacks) -> str:
    dtypes = {header.dtype.newbyteorder("=") for header in stacks.headers}
    return "float16" if dtypes == {np.dtype("float16")} else "float32"


def _writer(
    stacks: ImageStacks,
    pixel_sizes_angstrom: Float[np.ndarray, " n"],
    images: UniqueImages,
    folder: Path,
    box: int,
    dtype: np.dtype,
    per_file: int,
) -> StackWriter:
    first = images.row_of_image[::per_file]
    sizes: Float[np.ndarray, " f"] = pixel_sizes_angstrom[first] * stacks.boxes[first] / box
    return StackWriter(folder, len(images.row_of_image), box, dtype, sizes.tolist(), per_file)


def _facts(table: ParticleFile, writer: StackWriter) -> dict[str, Any]:
    """What must be the same for a stopped run to go on."""
    newest = max(header.modified_ns for header in table.stacks.headers)
    return {
        "source": str(table.path.resolve()),
        "source_modified_ns": table.path.stat().st_mtime_ns,
        "stacks_modified_ns": newest,
        "images": writer.count,
        "box": writer.box,
        "dtype": str(writer.dtype),
        "per_file": writer.per_file,
    }


def _go_on(folder: Path, facts: dict[str, Any], writer: StackWriter, target: Path) -> None:
    """Take up what a stopped run has left, or see that nothing is in the way."""
    record = folder / RECORD
    if not record.exists():
        in_the_way = [path for path in (target, *writer.paths) if path.exists()]
        if in_the_way:
            raise InputError(f"{in_the_way[0]}: exists already; give another --out, or delete it")
        return
    try:
        left = json.loads(record.read_text())
        same = {key: left.get(key) for key in facts} == facts
        statistics = [StackStatistics(**entry) for entry in left["statistics"]] if same else []
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{record}: cannot be read ({error}); delete {folder} and start anew") from error
    if not same:
        raise InputError(
            f"{folder}: holds images of another file, or with other settings ({RECORD}); give another --out"
        )
    writer.statistics = statistics
    writer.check_files()
    logger.info("%s: %d of %d images are there already", folder, writer.done, writer.count)


def _record(folder: Path, facts: dict[str, Any], writer: StackWriter) -> None:
    with atomic_path(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(facts | {"statistics": [asdict(entry) for entry in writer.statistics]}))


def _check_room(folder: Path, needed: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; give another --out") from error
    if needed > free:
        raise InputError(
            f"{folder}: the images need {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free; give another "
            "--out, a smaller --box or --dtype float16"
        )

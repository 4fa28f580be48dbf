"""Writing image stacks that are larger than the memory, in as many files as wanted, in one go or in several."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from mrcfile.mrcinterpreter import MrcInterpreter

from cryoformer.errors import InputError

HEADER_BYTES = 1024


@dataclass
class StackStatistics:
    """What the header of one stack says of its pixels, gathered image by image."""

    images: int = 0
    smallest: float = float("inf")
    largest: float = float("-inf")
    total: float = 0.0
    squares: float = 0.0

    def add(self, images: np.ndarray) -> None:
        """Count these images too."""
        values = images.astype(np.float64)
        self.images += len(images)
        self.smallest, self.largest = min(self.smallest, values.min()), max(self.largest, values.max())
        self.total, self.squares = self.total + values.sum(), self.squares + np.square(values).sum()


@dataclass
class StackWriter:
    """``count`` images of one box, written in order into ``particles.mrcs`` (or ``particles_0001.mrcs``, ...).

    A header promises all images of its file from the start, so what an interrupted run leaves behind is known as cut
    short by whoever reads it. ``statistics``, one a file, says how far the writing has come; given again to a new
    writer, the writing goes on from there.

    Attributes:
        folder: where the files go.
        count: number of images in all.
        box: image side in pixels.
        dtype: float16 (MRC mode 12) or float32 (mode 2).
        pixel_sizes_angstrom: for the headers, one a file.
        per_file: images in each file but the last.
        statistics: of the files begun so far.
    """

    folder: Path
    count: int
    box: int
    dtype: np.dtype
    pixel_sizes_angstrom: list[float]
    per_file: int
    statistics: list[StackStatistics] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        """All files, in order."""
        files = -(-self.count // self.per_file)
        names = ["particles.mrcs"] if files == 1 else [f"particles_{file + 1:04d}.mrcs" for file in range(files)]
        return [self.folder / name for name in names]

    @property
    def done(self) -> int:
        """Number of images written."""
        return sum(statistics.images for statistics in self.statistics)

    def check_files(self) -> None:
        """See that the images written by an earlier run are there, and drop what it wrote beyond them.

        Raises:
            InputError: they are not.
        """
        for path, statistics in zip(self.paths, self.statistics, strict=False):
            expected = HEADER_BYTES + statistics.images * self._image_bytes
            size = path.stat().st_size if path.exists() else 0
            if size < expected:
                raise InputError(
                    f"{path}: has {size} bytes, an earlier run wrote {expected}; delete {self.folder} and start again"
                )
            os.truncate(path, expected)

    def write(self, images: Float32[np.ndarray, "b d d"]) -> None:
        """Append images.

        Raises:
            InputError: values too large for float16, or a full disk.
        """
        with np.errstate(over="ignore"):
            values = images.astype(self.dtype)
        if not np.isfinite(values.sum(dtype=np.float64)):
            raise InputError(f"{self.folder}: images hold values too large for {self.dtype}; give --dtype float32")
        while len(values):
            file, within = divmod(self.done, self.per_file)
            part, values = values[: self.per_file - within], values[self.per_file - within :]
            if within == 0:
                self.statistics.append(StackStatistics())
            try:
                with self.paths[file].open("ab" if within else "wb") as stack:
                    if within == 0:
                        stack.write(self._header(file))
                    part.tofile(stack)
            except OSError as error:
                path = self.paths[file]
                raise InputError(f"{path}: cannot be written ({error}); make room and start again") from error
            self.statistics[file].add(part)

    def finish(self) -> None:
        """Write the statistics into the headers, once all images are there."""
        for file, path in enumerate(self.paths):
            with path.open("r+b") as stack:
                stack.write(self._header(file))

    @property
    def _image_bytes(self) -> int:
        return self.box * self.box * self.dtype.itemsize

    def _header(self, file: int) -> bytes:
        """The header as mrcfile makes it, for the number of images that the file will hold."""
        made = MrcInterpreter()
        made._create_default_attributes()
        made.set_data(np.zeros((1, self.box, self.box), dtype=self.dtype))
        made.set_image_stack()
        made.voxel_size = self.pixel_sizes_angstrom[file]
        header, statistics = made.header, self.statistics[file]
        # The library's own line holds the time of day; the same images give the same file.
        header.label[0] = b"Written by CryoFormer"
        header.nz = min(self.per_file, self.count - file * self.per_file)
        pixels = statistics.images * self.box**2
        if pixels:
            mean = statistics.total / pixels
            header.dmin, header.dmax, header.dmean = statistics.smallest, statistics.largest, mean
            header.rms = np.sqrt(max(statistics.squares / pixels - mean**2, 0.0))
        return bytes(header.tobytes())

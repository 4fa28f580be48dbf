"""A file that lists particles, whatever program wrote it: what can be asked of it, and written from it.

A kind of file implements what it can; what it leaves out is refused here, with what to do instead. Which kind a path is
says :mod:`cryoformer.formats.load`, and nothing else looks at suffixes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Integer

from cryoformer.errors import InputError
from cryoformer.formats.fingerprint import fingerprint
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.particles.metadata_check import check_metadata
from cryoformer.particles.particles import Particles
from cryoformer.particles.references import ImageReferences, open_images
from cryoformer.particles.stack import ImageStacks

NOTHING_ADDED: Mapping[str, np.ndarray] = {}


class ParticleFile(ABC):
    """A file of particles, read where something of it is asked for.

    Attributes:
        path: the file that lists the images; messages name it.
        datadir: folder to look for the image stacks in first.
        no_ctf: that the images have no CTF, whatever the file says of it.
        suffix: of files of this kind that some rows, or all of them at other poses, can be written to; "" if none can.
        posed_name: what such a file with other poses is called in its folder.
        says_contrast: whether files of this kind say if particles are dark.
        can_be_downsampled: whether it can be written for smaller images.
        is_stacks: whether it is nothing but stacks, whose headers say how many images there are.
    """

    suffix: ClassVar[str] = ""
    posed_name: ClassVar[str] = ""
    says_contrast: ClassVar[bool] = False
    can_be_downsampled: ClassVar[bool] = False
    is_stacks: ClassVar[bool] = False

    def __init__(self, path: Path, datadir: Path | None = None, *, no_ctf: bool = False) -> None:
        self.path, self.datadir, self.no_ctf = path, datadir, no_ctf

    def __len__(self) -> int:
        return len(self.references)

    @property
    def lists_images(self) -> bool:
        """Whether it says which images its rows are."""
        return True

    @property
    @abstractmethod
    def references(self) -> ImageReferences:
        """Which image of which stack every row is."""

    @cached_property
    def stacks(self) -> ImageStacks:
        """The images.

        Raises:
            InputError: a stack is missing, unreadable or cut short.
        """
        return open_images(self.references, self.path, self.datadir)

    @property
    def half_set(self) -> Integer[np.ndarray, " n"] | None:
        """1 or 2 per particle, None where the file does not say."""
        return None

    @property
    def premultiplied(self) -> Bool[np.ndarray, " n"]:
        """Which images were multiplied by their CTF, as the file says."""
        return np.zeros(len(self), dtype=bool)

    @property
    def optics_group(self) -> Integer[np.ndarray, " n"] | None:
        """Number of each particle's optics group, None where the file does not say."""
        return None

    @property
    @abstractmethod
    def pixel_sizes_angstrom(self) -> Float[np.ndarray, " n"]:
        """Pixel size per particle."""

    @property
    def names(self) -> dict[str, str]:
        """What the file calls the quantities that :mod:`cryoformer.particles.metadata_check` looks at."""
        return {}

    def read(self, *, require_images: bool = True, require_ctf: bool = True, require_poses: bool = True) -> Particles:
        """All particles. Everything but the pixels is checked here, before any work starts.

        Args:
            require_images: False loads the metadata alone.
            require_ctf: False allows files without CTF columns; their CTF is 1 at all frequencies.
            require_poses: False allows files without poses; see :attr:`Particles.posed`.

        Raises:
            InputError: anything that is missing, does not fit or cannot be, with file, row and remedy.
        """
        posed = require_poses or self.has_poses
        particles = replace(self._read(require_images, require_ctf and not self.no_ctf, posed), posed=posed)
        if self.no_ctf:
            particles = replace(particles, ctf=CTFParameters.none(len(particles)))
        check_metadata(particles, self.names)
        return replace(particles, fingerprint=fingerprint(particles))

    @property
    def has_poses(self) -> bool:
        """Whether the file has poses in 3D."""
        return True

    @abstractmethod
    def _read(self, require_images: bool, require_ctf: bool, posed: bool) -> Particles:
        """All particles, before their numbers are looked at; at no rotation and no shift if they are not posed."""

    def columns(self) -> pd.DataFrame:
        """What the file says of every particle, a row each, under its own names."""
        names = np.array(self.references.paths, dtype=object)[self.references.path_of_row]
        return pd.DataFrame({"stack": names, "index": self.references.index_of_row})

    def classes(self) -> Int[np.ndarray, " n"]:
        """The class of each particle: the one that it was given, or the most probable one.

        Raises:
            InputError: the file says nothing of classes.
        """
        raise InputError(f"{self.path}: says nothing of classes; give the particles of a classification (.star, .cs)")

    def write_rows(
        self, rows: Integer[np.ndarray, " m"], out: Path, added: Mapping[str, np.ndarray] = NOTHING_ADDED
    ) -> None:
        """Some rows, in this order, as a file of the same kind with all that the file says of them.

        Args:
            added: columns with a number for each of these rows, which the file gets or which replace its own; see
                :meth:`weight_columns`.

        Raises:
            InputError: another kind of file, or a row that there is not.
        """
        if not self.suffix:
            raise InputError(
                f"{self.path}: rows of {self.path.suffix.lower() or 'this'} files cannot be written on; give an --out "
                "that ends in .npy for the rows' numbers, or turn the file into a .star with cryoformer convert and "
                "train on that"
            )
        if out.suffix.lower() != self.suffix:
            raise InputError(
                f"{out}: the particles come from a {self.suffix} file and keep its columns; give an --out that ends in "
                f"{self.suffix} (and turn that into another format with cryoformer convert)"
            )
        self._write_rows(rows, out, added)

    def _write_rows(self, rows: Integer[np.ndarray, " m"], out: Path, added: Mapping[str, np.ndarray]) -> None:
        raise self._cannot_be_written(self.path)

    def weight_columns(self, weights: Float[np.ndarray, " m"], halves: Int[np.ndarray, " m"]) -> dict[str, np.ndarray]:
        """Columns for :meth:`write_rows` that hold how much particles count, and their half-sets (1 or 2).

        Empty where files of this kind cannot say it.
        """
        return {}

    @staticmethod
    def _cannot_be_written(path: Path) -> InputError:
        return InputError(f"{path}: files of this kind are only read; give a .star, a .cs or cryoDRGN's files")

    def check_rows(self, rows: Integer[np.ndarray, " m"], count: int) -> None:
        """Refuse rows that are not from 0 to ``count`` - 1."""
        if rows.min() < 0 or rows.max() >= count:
            wrong = rows.min() if rows.min() < 0 else rows.max()
            raise InputError(f"{self.path}: there is no row {wrong}; it has {count} particles, counted from 0")

    def posed_path(self, folder: Path) -> Path:
        """The file that :meth:`write_posed` writes.

        Raises:
            InputError: it would replace this one.
        """
        target = folder / self.posed_name
        if same_file(target, self.path):
            raise InputError(f"{folder}: holds the particles whose poses are to be refined; give another --out")
        return target

    def write_posed(self, particles: Particles, folder: Path) -> Path:
        """All particles of the file at their poses as they are now, as a file of its kind; nothing else changes.

        Args:
            particles: all rows, in the order of the file.
            folder: for the file, :attr:`posed_name`.

        Returns:
            The file.
        """
        target = self.posed_path(folder)
        self._write_posed(particles, target)
        return target

    def _write_posed(self, particles: Particles, target: Path) -> None:
        raise self._cannot_be_written(self.path)

    def write_downsampled(
        self, target: Path, box: int, paths: Sequence[Path], image_of_row: Int[np.ndarray, " n"], per_file: int
    ) -> Path:
        """The same rows for images of ``box`` pixels: row i is image ``image_of_row[i]``, ``per_file`` in each path.

        Returns:
            ``target``.
        """
        raise self._cannot_be_written(self.path)

    @classmethod
    def write(cls, particles: Particles, target: Path, datadir: Path | None, sign: int | None) -> list[Path]:
        """Any particles as a new file of this kind.

        Args:
            datadir: folder in which their stacks were looked for first.
            sign: 1 for white particles, -1 for dark ones, where the kind :attr:`says_contrast`.

        Returns:
            The files written.

        Raises:
            InputError: the kind cannot say what the particles are.
        """
        raise cls._cannot_be_written(target)

    @classmethod
    def files_written(cls, target: Path) -> list[Path]:
        """The files that :meth:`write` would write."""
        return [target]


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths are the same file, which is there."""
    return one.exists() and other.exists() and one.samefile(other)

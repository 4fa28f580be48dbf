"""Particle files whose images get another box: what of the tables changes with it, and what stays.

Pixel size and image size change, per optics group; origins in pixels change, those in Angstrom stay; every image gets
a new name. Everything else is written back as it came.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cryoformer.errors import InputError
from cryoformer.files import atomic_path
from cryoformer.formats.relion.particles import RelionTable, pixel_sizes_angstrom
from cryoformer.formats.relion.star import particle_tables, read_star_tables
from cryoformer.formats.relion.star_text import StarText, TableEdit
from cryoformer.particles.references import open_images, split_references
from cryoformer.particles.stack import ImageStacks


@dataclass(frozen=True)
class DownsampledStar:
    """A RELION file, its images, and how it is written for smaller ones."""

    source: Path
    stacks: ImageStacks
    pixel_sizes_angstrom: Float[np.ndarray, " n"]
    table: RelionTable

    def write(
        self, target: Path, box: int, paths: Sequence[Path], image_of_row: Int[np.ndarray, " n"], per_file: int
    ) -> Path:
        """Write the STAR file for images of ``box`` pixels, ``per_file`` in each of ``paths``; returns ``target``.

        Image names start from the current folder, as RELION's do, if ``paths`` do.
        """
        star = StarText(self.source)
        particles, optics = particle_tables(star)
        file_of_row, index_of_row = np.divmod(image_of_row, per_file)
        places = zip(file_of_row.tolist(), index_of_row.tolist(), strict=True)
        names = [f"{index + 1:06d}@{paths[file]}" for file, index in places]
        factors = self.stacks.boxes / box
        changed = _scaled(self.table.particles, factors, box)
        edits = [TableEdit(particles, None, {**changed, "rlnImageName": names})]
        if optics is not None and self.table.optics is not None:
            of_group = self._factor_of_group(factors)
            edits.append(TableEdit(optics, None, _scaled(self.table.optics, of_group, box)))
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            file.writelines(star.edited(edits))
        return target

    def _factor_of_group(self, factors: Float[np.ndarray, " n"]) -> Float[np.ndarray, " g"]:
        """How much larger the pixels of each row of the optics table get; 1 for groups without particles."""
        assert self.table.optics is not None
        of_group = np.ones(len(self.table.optics))
        of_group[self.table.optics_row] = factors
        other = np.flatnonzero(of_group[self.table.optics_row] != factors)
        if len(other):
            row = int(other[0])
            raise InputError(
                f"{self.source}: optics group {self.table.optics_group[row]} has images of different sizes (row "
                f"{row + 1} is of {self.stacks.boxes[row]} pixels); give each size an optics group of its own"
            )
        return of_group


def _scaled(table: pd.DataFrame, factors: Float[np.ndarray, " r"], box: int) -> dict[str, list[str]]:
    """The columns of a table that change where pixels get larger by ``factors``."""
    changed = {}
    for column, power in (
        ("rlnImagePixelSize", 1),
        ("rlnDetectorPixelSize", 1),
        ("rlnPixelSize", 1),
        ("rlnOriginX", -1),
        ("rlnOriginY", -1),
    ):
        if column in table.columns:
            values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64) * factors**power
            changed[column] = [f"{value:.9g}" for value in values]
    if "rlnImageSize" in table.columns:
        changed["rlnImageSize"] = [str(box)] * len(table)
    return changed


@dataclass(frozen=True)
class DownsampledCryosparc:
    """A cryoSPARC file, its images, and how it is written for smaller ones."""

    source: Path
    stacks: ImageStacks
    pixel_sizes_angstrom: Float[np.ndarray, " n"]

    def write(
        self, target: Path, box: int, paths: Sequence[Path], image_of_row: Int[np.ndarray, " n"], per_file: int
    ) -> Path:
        """Write the ``.cs`` file and its ``.csg``; ``>`` means "beside this file" to cryoSPARC.

        Origins are in pixels of the alignment's own ``psize_A``, and stay. Where that is missing they are in pixels of
        the images, and follow them.
        """
        from cryoformer.formats.cryosparc.dataset import join_passthrough, read_dataset, write_csg, write_dataset

        dataset = join_passthrough(read_dataset(self.source), self.source)
        file_of_row, index_of_row = np.divmod(image_of_row, per_file)
        factors = self.stacks.boxes / box
        for field in dataset.fields():
            group, _, name = field.partition("/")
            if group.startswith("alignments") and name == "shift" and f"{group}/psize_A" not in dataset.fields():
                shifts = np.asarray(dataset[field])
                dataset[field] = shifts / factors.reshape(-1, *[1] * (shifts.ndim - 1)).astype(shifts.dtype)
        dataset["blob/path"] = [f">{paths[file].name}" for file in file_of_row.tolist()]
        dataset["blob/idx"] = index_of_row.astype(np.uint32)
        dataset["blob/psize_A"] = (self.pixel_sizes_angstrom * factors).astype(np.float32)
        if "blob/shape" in dataset.fields():
            dataset["blob/shape"] = np.full((len(image_of_row), 2), box, dtype=np.uint32)
        write_dataset(dataset, target)
        write_csg(target, dataset.fields(), len(dataset))
        return target


DownsampledTable = DownsampledStar | DownsampledCryosparc


def open_table(source: Path, datadir: Path | None) -> DownsampledTable:
    """A particle file whose images exist; poses and CTF are not needed.

    Raises:
        InputError: another format, or a file or stack that cannot be read.
    """
    suffix = source.suffix.lower()
    if suffix == ".star":
        table = RelionTable(source, *read_star_tables(source))
        stacks = open_images(split_references(table.particles["rlnImageName"], source), source, datadir)
        return DownsampledStar(source, stacks, pixel_sizes_angstrom(table), table)
    if suffix == ".cs":
        from cryoformer.formats.cryosparc.particles import image_references
        from cryoformer.formats.cryosparc.table import CryosparcTable

        fields = CryosparcTable(source)
        stacks = open_images(image_references(fields), source, datadir)
        return DownsampledCryosparc(source, stacks, fields.positive("blob/psize_A"))
    raise InputError(
        f"{source}: only .star and .cs files can be downsampled; turn it into a .star with cryoformer convert first"
    )

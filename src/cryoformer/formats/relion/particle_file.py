"""A RELION STAR file: read as particles, and written back with other rows, poses or images, all else as it was."""

import logging
import mmap
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Integer

from cryoformer.errors import InputError
from cryoformer.files import atomic_path
from cryoformer.formats.particle_file import ParticleFile
from cryoformer.formats.relion import particles as relion
from cryoformer.formats.relion.star import particle_tables, read_star_tables, write_particles_star
from cryoformer.formats.relion.star_text import StarText, TableEdit
from cryoformer.formats.relion.table import RelionTable
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.imaging.rotations import euler_from_matrix
from cryoformer.particles.header_check import check_headers
from cryoformer.particles.particles import Particles
from cryoformer.particles.references import ImageReferences, moved_paths, split_references, written_paths

logger = logging.getLogger(__name__)


class RelionFile(ParticleFile):
    """A particle STAR file of RELION 3.0 or 3.1 and later, or of a program that writes its format."""

    suffix = ".star"
    posed_name = "particles.star"
    can_be_downsampled = True

    @cached_property
    def table(self) -> RelionTable:
        """The particle table with its optics table."""
        return RelionTable(self.path, *read_star_tables(self.path))

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def references(self) -> ImageReferences:
        """``rlnImageName``."""
        return split_references(self.table.particles["rlnImageName"], self.path)

    @property
    def half_set(self) -> Integer[np.ndarray, " n"] | None:
        """``rlnRandomSubset``."""
        return relion.half_sets(self.table)

    @property
    def premultiplied(self) -> Bool[np.ndarray, " n"]:
        """``rlnCtfDataAreCtfPremultiplied``."""
        return self.table.numbers("rlnCtfDataAreCtfPremultiplied", 0.0) != 0

    @property
    def optics_group(self) -> Integer[np.ndarray, " n"]:
        """``rlnOpticsGroup``, 1 where there is none."""
        return self.table.optics_group

    @property
    def pixel_sizes_angstrom(self) -> Float[np.ndarray, " n"]:
        """Of whichever columns say it."""
        return relion.pixel_sizes_angstrom(self.table)

    @property
    def names(self) -> dict[str, str]:
        """Columns."""
        return relion.NAMES

    @property
    def has_poses(self) -> bool:
        """Whether all angles are there."""
        return all(self.table.has(name) for name in relion.POSE_COLUMNS)

    def _read(self, require_images: bool, require_ctf: bool, posed: bool) -> Particles:
        table = self.table
        relion.check_supported(table)
        rotations = relion.rotations(table) if posed else np.tile(np.eye(3), (len(table), 1, 1))
        ctf = CTFParameters.none(len(table)) if self.no_ctf else relion.ctf_parameters(table, require_ctf)
        pixel_sizes = self.pixel_sizes_angstrom
        shifts = relion.shifts_angstrom(table, pixel_sizes) if posed else np.zeros((len(table), 2))
        boxes = table.numbers("rlnImageSize", 0.0).astype(np.int64)
        references, stacks = self.references, None
        if require_images:
            stacks = self.stacks
            check_headers(self.path, stacks, boxes, pixel_sizes, "rlnImageSize", "rlnImagePixelSize")
            boxes = stacks.boxes
        return Particles(
            source=self.path,
            boxes=boxes,
            pixel_sizes_angstrom=pixel_sizes,
            rotations=rotations,
            shifts_angstrom=shifts,
            ctf=ctf,
            optics_group=self.optics_group,
            half_set=self.half_set,
            premultiplied=self.premultiplied,
            declared_sign=None,
            references=references,
            stacks=stacks,
        )

    def columns(self) -> pd.DataFrame:
        """The particle table."""
        return self.table.particles

    def classes(self) -> Int[np.ndarray, " n"]:
        """``rlnClassNumber``."""
        if "rlnClassNumber" not in self.table.particles:
            raise InputError(f"{self.path}: has no column rlnClassNumber; give the data.star of a classification")
        return self.table.particles["rlnClassNumber"].to_numpy(dtype=np.int64)

    def weight_columns(self, weights: Float[np.ndarray, " m"], halves: Int[np.ndarray, " m"]) -> dict[str, np.ndarray]:
        """``rlnParticleFigureOfMerit``, by which ``relion_reconstruct --fom_weighting`` weights, and the half-sets."""
        return {"rlnParticleFigureOfMerit": weights, "rlnRandomSubset": halves}

    def _write_rows(self, rows: Integer[np.ndarray, " m"], out: Path, added: Mapping[str, np.ndarray]) -> None:
        """The file as it is but for the rows of its particle table and what is added: not one other digit changes.

        An image path that would no longer lead to its stack from where ``out`` stands is made absolute.
        """
        star = StarText(self.path)
        table, _ = particle_tables(star)
        try:
            names = star.frame(table)["rlnImageName"]
        except ValueError as error:
            raise InputError(f"{self.path}: cannot be parsed as a STAR file ({error}); correct it") from error
        self.check_rows(rows, len(names))
        values = self._renamed(names.iloc[rows], out)
        values |= {name: [f"{value:.6g}" for value in column.tolist()] for name, column in added.items()}
        with atomic_path(out) as temporary, temporary.open("wb") as file:
            file.writelines(star.edited([TableEdit(table, rows, values)]))

    def _renamed(self, names: "pd.Series[str]", out: Path) -> dict[str, list[str]]:
        """The column of image names for ``out``, where some stacks would not be found from there; else nothing."""
        references = split_references(names, self.path)
        moved = moved_paths(references.paths, self.path, out, self.datadir)
        if not moved:
            return {}
        logger.info(
            "%s: paths of %d of %d stacks are written as absolute paths (such as %s), because they would not be found "
            "from there",
            out,
            len(moved),
            len(references.paths),
            next(iter(moved.values())),
        )
        places = zip(names, references.path_of_row.tolist(), references.index_of_row.tolist(), strict=True)
        named = [
            f"{index + 1:06d}@{moved[path]}" if (path := references.paths[number]) in moved else name
            for name, number, index in places
        ]
        return {"rlnImageName": named}

    def _write_posed(self, particles: Particles, target: Path) -> None:
        star = StarText(self.path)
        table, _ = particle_tables(star)
        # A file that had no poses gets the columns of RELION 3.1, or of 3.0 where it has no optics table.
        units = ("Angst",) if self.table.optics is not None else ("",)
        known = [unit for unit in ("Angst", "") if all(f"rlnOrigin{axis}{unit}" in table.columns for axis in "XY")]
        origins = _origins(particles, known or units)
        angles = _decimals(euler_from_matrix(particles.rotations))
        values = dict(zip(relion.POSE_COLUMNS, angles, strict=True)) | origins
        values |= self._renamed(star.frame(table)["rlnImageName"], target)
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            file.writelines(star.edited([TableEdit(table, None, values)]))

    def write_downsampled(
        self, target: Path, box: int, paths: Sequence[Path], image_of_row: Int[np.ndarray, " n"], per_file: int
    ) -> Path:
        """Pixel size and image size change, per optics group; origins in pixels change, those in Angstrom stay.

        Image names start from the current folder, as RELION's do, if ``paths`` do.
        """
        star = StarText(self.path)
        particles, optics = particle_tables(star)
        file_of_row, index_of_row = np.divmod(image_of_row, per_file)
        places = zip(file_of_row.tolist(), index_of_row.tolist(), strict=True)
        names = [f"{index + 1:06d}@{paths[file]}" for file, index in places]
        factors = self.stacks.boxes / box
        edits = [TableEdit(particles, None, {**_scaled(self.table.particles, factors, box), "rlnImageName": names})]
        if optics is not None and self.table.optics is not None:
            of_group = self._factor_of_group(self.table.optics, factors)
            edits.append(TableEdit(optics, None, _scaled(self.table.optics, of_group, box)))
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            file.writelines(star.edited(edits))
        return target

    def _factor_of_group(self, optics: pd.DataFrame, factors: Float[np.ndarray, " n"]) -> Float[np.ndarray, " g"]:
        """How much larger the pixels of each row of the optics table get; 1 for groups without particles."""
        of_group = np.ones(len(optics))
        of_group[self.table.optics_row] = factors
        other = np.flatnonzero(of_group[self.table.optics_row] != factors)
        if len(other):
            row = int(other[0])
            raise InputError(
                f"{self.path}: optics group {self.table.optics_group[row]} has images of different sizes (row "
                f"{row + 1} is of {self.stacks.boxes[row]} pixels); give each size an optics group of its own"
            )
        return of_group

    @classmethod
    def write(cls, particles: Particles, target: Path, datadir: Path | None, sign: int | None) -> list[Path]:
        """A file of RELION 3.1."""
        references = particles.require_references()
        paths = written_paths(references.paths, particles.source, target, datadir)
        if particles.declared_sign == -1:
            logger.info("%s: the particles are dark, which a STAR file cannot say", target)
        places = zip(references.index_of_row.tolist(), references.path_of_row.tolist(), strict=True)
        write_particles_star(
            target,
            [f"{index + 1:06d}@{paths[number]}" for index, number in places],
            particles.rotations if particles.posed else None,
            particles.shifts_angstrom,
            particles.ctf,
            particles.pixel_sizes_angstrom,
            particles.boxes,
            half_set=particles.half_set,
            premultiplied=particles.premultiplied,
            optics_group=particles.optics_group,
        )
        return [target]


def _origins(particles: Particles, units: Sequence[str]) -> dict[str, list[str]]:
    """Columns of origins with their values, in Angstrom ("Angst"), in pixels (""), or both."""
    found: dict[str, list[str]] = {}
    origins = 0.0 - particles.shifts_angstrom
    for unit in units:
        size = np.ones(len(particles)) if unit else particles.pixel_sizes_angstrom
        names = [f"rlnOrigin{axis}{unit}" for axis in "XY"]
        found |= dict(zip(names, _decimals(origins / size[:, None]), strict=True))
    return found


def _decimals(table: Float[np.ndarray, "n c"]) -> list[list[str]]:
    return [[f"{value:.6f}" for value in column] for column in table.T.tolist()]


def _scaled(table: pd.DataFrame, factors: Float[np.ndarray, " r"], box: int) -> dict[str, list[str]]:
    """The columns of a table that change where pixels get larger by ``factors``."""
    powers = {"rlnImagePixelSize": 1, "rlnDetectorPixelSize": 1, "rlnPixelSize": 1, "rlnOriginX": -1, "rlnOriginY": -1}
    changed = {}
    for column, power in powers.items():
        if column in table.columns:
            values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64) * factors**power
            changed[column] = [f"{value:.9g}" for value in values]
    if "rlnImageSize" in table.columns:
        changed["rlnImageSize"] = [str(box)] * len(table)
    return changed


def referring_files(stack: Path) -> list[Path]:
    """The STAR files beside a stack that name it."""
    name = re.compile(rb"[\s@/\"']" + re.escape(stack.name.encode()) + rb"[\s\"']")
    return [path for path in sorted(stack.parent.glob("*.star")) if _contains(path, name)]


def _contains(path: Path, pattern: re.Pattern[bytes]) -> bool:
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return pattern.search(content) is not None

"""cryoDRGN's files as one: images, the poses.pkl and the ctf.pkl that belong to them."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer

from cryoformer.errors import InputError
from cryoformer.formats.cryodrgn.particles import ctf_parameters, optics_groups, read_ctf, read_poses, write_cryodrgn
from cryoformer.formats.particle_file import NOTHING_ADDED, ParticleFile
from cryoformer.formats.relion.particle_file import RelionFile, referring_files
from cryoformer.particles.header_check import check_headers
from cryoformer.particles.metadata_check import NAMES
from cryoformer.particles.particles import Particles
from cryoformer.particles.references import ImageReferences
from cryoformer.particles.stack import ImageStacks

logger = logging.getLogger(__name__)

IMAGE_LISTS = ("images.star", "particles.star", "particles.txt", "particles.mrcs", "particles.mrc", "particles.cs")


class CryodrgnFile(ParticleFile):
    """``poses.pkl`` and ``ctf.pkl``, and the file that lists their images, which may say half-sets and optics too.

    ``path`` is that of the file of images.
    """

    suffix = ".pkl"
    posed_name = "poses.pkl"

    def __init__(self, images: ParticleFile, poses: Path | None, ctf: Path | None) -> None:
        """``poses`` is None where none are known, ``ctf`` for images that have none.

        The pixel size of those is what the file of images, or headers, say.
        """
        super().__init__(images.path, images.datadir, no_ctf=ctf is None)
        self.images, self.poses, self.ctf = images, poses, ctf

    def __len__(self) -> int:
        return len(self.images)

    @property
    def references(self) -> ImageReferences:
        """Of the file of images."""
        return self.images.references

    @property
    def stacks(self) -> ImageStacks:  # type: ignore[override]
        """Of the file of images."""
        return self.images.stacks

    @property
    def half_set(self) -> Integer[np.ndarray, " n"] | None:
        """Of the file of images."""
        return self.images.half_set

    @property
    def names(self) -> dict[str, str]:
        """Which pickle a quantity comes from."""
        of_ctf = {} if self.ctf is None else {key: f"{name} in {self.ctf.name}" for key, name in NAMES.items()}
        of_poses = {} if self.poses is None else {"shift": f"the shift in {self.poses.name}"}
        return of_ctf | of_poses | {"half_set": self.images.names.get("half_set", "")}

    @property
    def has_poses(self) -> bool:
        """Whether poses.pkl was given."""
        return self.poses is not None

    def _read(self, require_images: bool, require_ctf: bool, posed: bool) -> Particles:
        """A stack or a list of stacks must be there even without ``require_images``."""
        references = self.references
        stacks = self.stacks if require_images or self.images.is_stacks else None
        if posed and self.poses is None:
            raise InputError("--ctf is given without --poses; cryoDRGN's files belong together: give both")
        poses = read_poses(self.poses) if posed and self.poses is not None else None
        table = self._table_without_ctf() if self.ctf is None else read_ctf(self.ctf)
        rotations, fractions = poses or (np.tile(np.eye(3), (len(table), 1, 1)), np.zeros((len(table), 2)))
        for other, rows in ((self.poses, len(rotations)), (self.ctf, len(table))):
            if rows != len(references):
                raise InputError(
                    f"{other} has {rows} rows, but {self.path} has {len(references)} images; give the files that "
                    f"belong together, one row for every image and in the same order{self._another_list(rows)}"
                )
        side_angstrom = table[:, 0] * table[:, 1]
        boxes = table[:, 0].astype(np.int64)
        if stacks is not None:
            boxes = stacks.boxes
            resized = np.flatnonzero(boxes != table[:, 0])
            if len(resized):
                first = int(resized[0])
                logger.info(
                    "%s: its box is %d pixels of %.4g A, that of the images %d: their pixel size is %.4g A",
                    self.ctf, table[first, 0], table[first, 1], boxes[first], side_angstrom[first] / boxes[first],
                )  # fmt: skip
            check_headers(self.path, stacks, boxes, side_angstrom / boxes, "the box", "the pixel size")
        groups = self.images.optics_group
        return Particles(
            source=self.path,
            boxes=boxes,
            pixel_sizes_angstrom=side_angstrom / boxes,
            rotations=rotations,
            shifts_angstrom=0.0 - fractions * side_angstrom[:, None],
            ctf=ctf_parameters(table),
            optics_group=optics_groups(table) if groups is None else groups,
            half_set=self.half_set,
            premultiplied=self.images.premultiplied,
            declared_sign=None,
            references=references,
            stacks=stacks,
        )

    @property
    def pixel_sizes_angstrom(self) -> Float[np.ndarray, " n"]:
        """Of the file of images."""
        return self.images.pixel_sizes_angstrom

    def _table_without_ctf(self) -> Float[np.ndarray, "n 9"]:
        """Box and pixel size; the rest is as in ctf.pkl where there is no CTF: an amplitude contrast of 1."""
        table = np.zeros((len(self.references), 9))
        table[:, 0], table[:, 1] = self.stacks.boxes, self.pixel_sizes_angstrom
        table[:, 5], table[:, 7] = 300.0, 1.0
        return table

    def _another_list(self, rows: int) -> str:
        """A word on a table beside the stack that has as many rows as a pickle."""
        beside = referring_files(self.path) if self.images.is_stacks else []
        fitting = [path.name for path in beside if len(RelionFile(path)) == rows]
        return (
            f" ({fitting[0]}, which lists some of them, has {rows}: give it in place of the stack)" if fitting else ""
        )

    def write_rows(
        self, rows: Integer[np.ndarray, " m"], out: Path, added: Mapping[str, np.ndarray] = NOTHING_ADDED
    ) -> None:
        """As pickles, with a STAR file for the images; or, in the format of the file of images, its rows alone."""
        if self.images.suffix and out.suffix.lower() == self.images.suffix:
            self.images.write_rows(rows, out, added)
        else:
            super().write_rows(rows, out, added)

    def _write_rows(self, rows: Integer[np.ndarray, " m"], out: Path, added: Mapping[str, np.ndarray]) -> None:
        particles = self.read(require_images=False)
        self.check_rows(rows, len(particles))
        self.write(particles.subset(rows), out, self.datadir, None)

    def _write_posed(self, particles: Particles, target: Path) -> None:
        self.write(particles, target, self.datadir, None)

    @classmethod
    def write(cls, particles: Particles, target: Path, datadir: Path | None, sign: int | None) -> list[Path]:
        """Pickles, and a STAR file for the images: only that can say any order of images, and their half-sets."""
        if not particles.posed:
            raise InputError(
                f"{particles.source}: no poses, which cryoDRGN's files are for; run a 3D refinement, or convert to "
                ".star or .cs"
            )
        written = cls.files_written(target)
        write_cryodrgn(written[0], written[1], particles)
        RelionFile.write(particles, written[2], datadir, sign)
        return written

    @classmethod
    def files_written(cls, target: Path) -> list[Path]:
        """poses.pkl (or what it is called), ctf.pkl and images.star."""
        return [target, target.with_name("ctf.pkl"), target.with_name("images.star")]


def find_images(poses: Path, no_ctf: bool = False) -> tuple[list[Path], Path, Path]:
    """What may list the images of a cryoDRGN input, given as its poses.pkl; the poses and the CTF.

    Of the files that list images, ``images.star`` is the one that was written with the pickles.

    Raises:
        InputError: one of them is missing.
    """
    ctf = poses.with_name("ctf.pkl")
    lists = [place for name in IMAGE_LISTS if (place := poses.with_name(name)).is_file()]
    missing = [file.name for file in ([poses] if no_ctf else [poses, ctf]) if not file.is_file()]
    if missing or not lists:
        names = ", ".join(missing or IMAGE_LISTS)
        raise InputError(
            f"{poses}: {'' if missing else 'none of '}{names} found; give the images, with cryoDRGN's files as "
            "--poses POSES.pkl --ctf CTF.pkl"
        )
    return lists[:1] if lists[0].name == IMAGE_LISTS[0] else lists, poses, ctf

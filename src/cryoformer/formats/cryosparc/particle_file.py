"""A cryoSPARC particle file: read as particles, and written back with other rows, poses or images.

Fields and paths stay as they are: cryoSPARC finds the stacks from its project folder. What only the passthrough files
beside the file have is joined in, and every ``.cs`` file gets a ``.csg`` for cryoSPARC's "Import Result Group".
"""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Integer
from scipy.spatial.transform import Rotation

from cryoformer.errors import InputError
from cryoformer.formats.cryosparc import particles as cryosparc
from cryoformer.formats.cryosparc.dataset import join_passthrough, new_dataset, read_dataset, write_csg, write_dataset
from cryoformer.formats.cryosparc.fields import alignment_fields, blob_fields, ctf_fields
from cryoformer.formats.cryosparc.table import CryosparcTable
from cryoformer.formats.particle_file import ParticleFile
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.particles.header_check import check_headers
from cryoformer.particles.particles import Particles
from cryoformer.particles.references import ImageReferences, moved_paths, written_paths

if TYPE_CHECKING:
    from cryosparc.dataset import Dataset

logger = logging.getLogger(__name__)


class CryosparcFile(ParticleFile):
    """A ``.cs`` file."""

    suffix = ".cs"
    posed_name = "particles.cs"
    says_contrast = True
    can_be_downsampled = True

    @cached_property
    def table(self) -> CryosparcTable:
        """Its fields."""
        return CryosparcTable(self.path)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def lists_images(self) -> bool:
        """Not so the files of some jobs whose passthrough files are gone."""
        return self.table.has("blob/path") and self.table.has("blob/idx")

    @cached_property
    def references(self) -> ImageReferences:
        """``blob/path`` and ``blob/idx``."""
        return cryosparc.image_references(self.table)

    @property
    def half_set(self) -> Integer[np.ndarray, " n"] | None:
        """``alignments3D/split``."""
        return cryosparc.half_set(self.table)

    @property
    def pixel_sizes_angstrom(self) -> Float[np.ndarray, " n"]:
        """``blob/psize_A``."""
        return self.table.positive("blob/psize_A")

    @property
    def names(self) -> dict[str, str]:
        """Fields."""
        return cryosparc.NAMES

    @property
    def has_poses(self) -> bool:
        """Whether any group of fields holds poses in 3D."""
        return bool(cryosparc.pose_groups(self.table))

    def _read(self, require_images: bool, require_ctf: bool, posed: bool) -> Particles:
        table = self.table
        rotations, shifts = np.tile(np.eye(3), (len(table), 1, 1)), np.zeros((len(table), 2))
        if posed:
            rotations, shifts = cryosparc.poses(table)
        ctf = CTFParameters.none(len(table)) if self.no_ctf else cryosparc.ctf_parameters(table, require_ctf)
        cryosparc.warn_of_unmodelled(table)
        pixel_sizes, references, stacks = self.pixel_sizes_angstrom, self.references, None
        boxes = np.zeros(len(table), dtype=np.int64)
        if table.has("blob/shape"):
            boxes = table.numbers("blob/shape", (2,))[:, 0].astype(np.int64)
        if require_images:
            stacks = self.stacks
            check_headers(self.path, stacks, boxes, pixel_sizes, "blob/shape", "blob/psize_A")
            boxes = stacks.boxes
        return Particles(
            source=self.path,
            boxes=boxes,
            pixel_sizes_angstrom=pixel_sizes,
            rotations=rotations,
            shifts_angstrom=shifts,
            ctf=ctf,
            optics_group=table.numbers("ctf/exp_group_id", default=1.0).astype(np.int64),
            half_set=self.half_set,
            # cryoSPARC has no field for it.
            premultiplied=self.premultiplied,
            declared_sign=cryosparc.declared_sign(table),
            references=references,
            stacks=stacks,
        )

    def columns(self) -> pd.DataFrame:
        """The fields; of those with several numbers a particle, a column each (``alignments3D/pose_0``)."""
        columns: dict[str, np.ndarray] = {}
        for field in self.table.dataset.fields():
            values = np.asarray(self.table.dataset[field])
            flat = values.reshape(len(values), -1)
            names = [field] if values.ndim == 1 else [f"{field}_{place}" for place in range(flat.shape[1])]
            columns |= dict(zip(names, flat.T, strict=True))
        return pd.DataFrame(columns)

    def classes(self) -> Int[np.ndarray, " n"]:
        """A class, or the most probable one."""
        fields = self.table.dataset.fields()
        matches = [re.match(r"alignments_class\w*_(\d+)/class_posterior$", field) for field in fields]
        numbered = sorted((int(match[1]), match[0]) for match in matches if match)
        named = [field for field in fields if re.match(r"alignments\w*/class$", field)]
        if len(numbered) > 1:
            posteriors = np.stack([self.table.numbers(field) for _, field in numbered], axis=1)
            return np.array([number for number, _ in numbered])[posteriors.argmax(axis=1)]
        if "alignments3D_multi/class_posterior" in fields:
            return np.asarray(self.table.values("alignments3D_multi/class_posterior")).argmax(axis=1)
        if named:
            return self.table.numbers(named[0]).astype(np.int64)
        raise InputError(f"{self.path}: says nothing of classes; export the particles of a 3D classification")

    def weight_columns(self, weights: Float[np.ndarray, " m"], halves: Int[np.ndarray, " m"]) -> dict[str, np.ndarray]:
        """``alignments3D/weight``, and the half-sets as cryoSPARC counts them, from 0."""
        return {"alignments3D/weight": weights.astype(np.float32), "alignments3D/split": (halves - 1).astype(np.uint32)}

    def _write_rows(self, rows: Integer[np.ndarray, " m"], out: Path, added: Mapping[str, np.ndarray]) -> None:
        dataset = read_dataset(self.path)
        self.check_rows(rows, len(dataset))
        some = join_passthrough(dataset.take(rows), self.path)
        some.add_fields([(name, values.dtype.str) for name, values in added.items() if name not in some.fields()])
        for name, values in added.items():
            some[name] = values
        group = _write(some, out)
        logger.info("%s: import this in cryoSPARC with 'Import Result Group'", group)

    def _write_posed(self, particles: Particles, target: Path) -> None:
        dataset = self._whole()
        if "alignments3D/pose" not in dataset.fields():
            # Of classes, say: the poses are those of each particle's most probable one.
            added = {name: values for name, values in alignment_fields(particles).items() if name not in dataset}
            dataset.add_fields([(name, values.dtype.str, *values.shape[1:]) for name, values in added.items()])
            for name, values in added.items():
                dataset[name] = values
        own = "alignments3D/psize_A" in dataset.fields()
        sizes = np.asarray(dataset["alignments3D/psize_A" if own else "blob/psize_A"], dtype=np.float64)
        vectors = Rotation.from_matrix(np.swapaxes(particles.rotations, -1, -2)).as_rotvec()
        dataset["alignments3D/pose"] = vectors.astype(np.float32)
        dataset["alignments3D/shift"] = (0.0 - particles.shifts_angstrom / sizes[:, None]).astype(np.float32)
        references = particles.require_references()
        moved = moved_paths(references.paths, self.path, target, self.datadir)
        if moved:
            # A stack in the project's folder keeps its path, which is what cryoSPARC finds it by.
            old = np.asarray(dataset["blob/path"])
            new = [moved.get(references.paths[number]) for number in references.path_of_row.tolist()]
            dataset["blob/path"] = [path if place is None else str(place) for path, place in zip(old, new, strict=True)]
        _write(dataset, target)

    def write_downsampled(
        self, target: Path, box: int, paths: Sequence[Path], image_of_row: Int[np.ndarray, " n"], per_file: int
    ) -> Path:
        """The ``.cs`` file and its ``.csg``; ``>`` means "beside this file" to cryoSPARC.

        Origins are in pixels of the alignment's own ``psize_A``, and stay. Where that is missing they are in pixels of
        the images, and follow them.
        """
        dataset = self._whole()
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
        _write(dataset, target)
        return target

    def _whole(self) -> "Dataset":
        """The table with every field of the job, to be changed and written."""
        return join_passthrough(read_dataset(self.path), self.path)

    @classmethod
    def write(cls, particles: Particles, target: Path, datadir: Path | None, sign: int | None) -> list[Path]:
        """A file that cryoSPARC imports, with the ``.csg`` beside it."""
        references = particles.require_references()
        if not particles.boxes.all():
            raise InputError(
                f"{particles.source}: a cryoSPARC file needs the path and the size of every image; convert a file that "
                "lists them, where its image stacks are"
            )
        if particles.premultiplied.any():
            raise InputError(
                f"{particles.source}: the images were multiplied by their CTF, which a cryoSPARC file cannot say; "
                "extract them again without premultiplication"
            )
        paths = written_paths(references.paths, particles.source, target, datadir, beside=">")
        fields = blob_fields(particles, references, paths, sign or 1) | ctf_fields(particles)
        fields |= alignment_fields(particles) if particles.posed else {}
        return [target, _write(new_dataset(target, fields), target)]


def _write(dataset: "Dataset", target: Path) -> Path:
    """Write a ``.cs`` file and its ``.csg``, which is returned."""
    write_dataset(dataset, target)
    return write_csg(target, dataset.fields(), len(dataset))

"""cryoSPARC particle files (``.cs``) as Particles.

Poses stand in ``alignments3D`` after a refinement, per class in ``alignments3D_multi`` after a heterogeneous
refinement, and in ``alignments_class_0``, ``alignments_class_1``, ... after an ab-initio reconstruction or a 3D
classification; where there are several classes, each particle takes its most probable one.

``pose`` is a rotation vector, the transpose of R; ``shift`` is the origin in pixels of the alignment's own
``psize_A``, which is not the pixel size of the images where the job worked on smaller ones. ``blob/sign`` is -1 for
dark particles.
"""

import logging
import re

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Integer
from scipy.spatial.transform import Rotation

from cryoformer.errors import InputError
from cryoformer.formats.cryosparc.table import CTF_FIELDS, CryosparcTable, remedy
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.particles.references import ImageReferences

logger = logging.getLogger(__name__)

# What the check of metadata names.
NAMES = {
    "voltage": "ctf/accel_kv",
    "cs": "ctf/cs_mm",
    "contrast": "ctf/amp_contrast",
    "defocus": "ctf/df1_A or ctf/df2_A",
    "defocus_angle": "ctf/df_angle_rad",
    "phase_shift": "ctf/phase_shift_rad",
    "b_factor": "ctf/bfactor",
    "pixel_size": "blob/psize_A",
    "shift": "the shift of the alignment",
    "half_set": "alignments3D/split",
}
# Higher aberrations and anisotropic magnification (the difference from none).
UNMODELLED = ("ctf/tilt_A", "ctf/trefoil_A", "ctf/tetra_A", "ctf/shift_A", "ctf/anisomag")
# Rotation vectors are of half a turn at most; whole turns more are the same rotation, but not many.
LONGEST_POSE = 6 * np.pi


def image_references(table: CryosparcTable) -> ImageReferences:
    """``blob/path`` and ``blob/idx``. A leading ``>`` says "relative to this file" and is no part of the name."""
    names = table.values("blob/path")
    if names.dtype.kind not in "OUS":
        raise InputError(f"{table.source}: blob/path holds no text; export the particles from cryoSPARC again")
    number, written = pd.factorize(names)
    of_written, paths = pd.factorize(np.array([str(name).removeprefix(">") for name in written], dtype=object))
    empty = np.flatnonzero(np.array([not name for name in paths])[of_written][number])
    if len(empty):
        raise InputError(f"{table.source}: row {empty[0] + 1}: blob/path is empty; {remedy('blob/path')}")
    index = table.numbers("blob/idx")
    table.check_range("blob/idx", index, (index >= 0) & (index == np.floor(index)), "a whole number from 0 on")
    return ImageReferences(
        tuple(str(path) for path in paths), of_written[number].astype(np.int32), index.astype(np.int64)
    )


def warn_of_unmodelled(table: CryosparcTable) -> None:
    """One line on higher aberrations and anisotropic magnification, where there are any."""
    unused = [field for field in UNMODELLED if table.has(field) and np.any(np.asarray(table.values(field)) != 0)]
    if unused:
        logger.warning(
            "%s: %s are not modelled: fine detail is less sharp than it could be, by more the larger they are",
            table.source, ", ".join(unused),
        )  # fmt: skip


def ctf_parameters(table: CryosparcTable, required: bool = True) -> CTFParameters:
    """CTF parameters; phase shift and B-factor are 0 where absent, and the CTF 1 where there is none at all.

    Raises:
        InputError: fields are missing, or values are impossible.
    """
    if not any(table.has(field) for field in CTF_FIELDS):
        if not required:
            return CTFParameters.none(len(table))
        raise InputError(
            f"{table.source}: no field {CTF_FIELDS[0]}; {remedy(CTF_FIELDS[0])}; if the images have no CTF, or are "
            "corrected for it, give --no-ctf"
        )
    columns = [table.numbers(field) for field in CTF_FIELDS]
    columns[2] = np.degrees(columns[2])
    columns[3] = table.positive("ctf/accel_kv")
    fraction = (columns[5] >= 0) & (columns[5] <= 1)
    table.check_range("ctf/amp_contrast", columns[5], fraction, "a fraction from 0 to 1")
    columns.append(np.degrees(table.numbers("ctf/phase_shift_rad", default=0.0)))
    columns.append(table.numbers("ctf/bfactor", default=0.0))
    return CTFParameters(*(torch.from_numpy(column.astype(np.float32)) for column in columns))


def declared_sign(table: CryosparcTable) -> int | None:
    """1 for white particles, -1 for dark ones, None where ``blob/sign`` is absent or says nothing.

    Raises:
        InputError: the file has white and dark particles.
    """
    if not table.has("blob/sign"):
        return None
    signs = np.unique(np.sign(table.numbers("blob/sign"))).astype(int).tolist()
    if len(signs) > 1:
        raise InputError(
            f"{table.source}: blob/sign says that some particles are white and others dark; give them one contrast "
            "in cryoSPARC, or use them apart"
        )
    return signs[0] or None


def half_set(table: CryosparcTable) -> Integer[np.ndarray, " n"] | None:
    """Particles that were never split are all of split 0."""
    if not table.has("alignments3D/split"):
        return None
    split = table.numbers("alignments3D/split").astype(np.int64)
    return split + 1 if np.unique(split).tolist() == [0, 1] else None


def pose_groups(table: CryosparcTable) -> list[str]:
    """The groups of fields that hold poses, those of a refinement first."""
    fields = table.dataset.fields()
    classes = [match[1] for field in fields if (match := re.match(r"(alignments_class(?:3D)?_\d+)/pose$", field))]
    groups = [name for name in ("alignments3D", "alignments3D_multi") if table.has(f"{name}/pose")]
    return groups + classes


def poses(table: CryosparcTable) -> tuple[Float[np.ndarray, "n 3 3"], Float[np.ndarray, "n 2"]]:
    """R, and where the content sits in Angstrom, of the refinement or of each particle's most probable class.

    Raises:
        InputError: no alignments in 3D.
    """
    groups = pose_groups(table)
    if groups[:1] == ["alignments3D"]:
        vectors, origins = table.numbers("alignments3D/pose", (3,)), table.numbers("alignments3D/shift", (2,))
        pixel_sizes = _alignment_pixel_size(table, "alignments3D")
    elif groups[:1] == ["alignments3D_multi"]:
        vectors, origins, pixel_sizes = _of_best_class(table)
    elif groups:
        vectors, origins, pixel_sizes = _of_class_fields(table, groups)
    else:
        raise InputError(f"{table.source}: no poses: alignments3D/pose is missing; {remedy('alignments3D/pose')}")
    turn = np.linalg.norm(vectors, axis=1)
    table.check_range("the length of the pose", turn, turn <= LONGEST_POSE, "radians (degrees?)")
    rotations = np.swapaxes(Rotation.from_rotvec(vectors).as_matrix(), -1, -2)
    return rotations, 0.0 - origins * pixel_sizes[:, None]


def _alignment_pixel_size(table: CryosparcTable, group: str) -> Float[np.ndarray, " n"]:
    if table.has(f"{group}/psize_A"):
        return table.positive(f"{group}/psize_A")
    logger.info("%s: no %s/psize_A; shifts are taken in pixels of the images", table.source, group)
    return table.positive("blob/psize_A")


def _of_best_class(
    table: CryosparcTable,
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
    """Heterogeneous refinement: one vector of entries per particle, one entry a class."""
    count = table.values("alignments3D_multi/pose").shape[1]
    posteriors = table.numbers("alignments3D_multi/class_posterior", (count,))
    best = posteriors.argmax(axis=1)
    rows = np.arange(len(table))
    logger.info("%s: poses of each particle's most probable class of %d", table.source, count)
    field = "alignments3D_multi/psize_A"
    per_class = table.has(field) and table.values(field).ndim == 2
    sizes = (
        table.numbers(field, (count,))[rows, best] if per_class else _alignment_pixel_size(table, "alignments3D_multi")
    )
    return (
        table.numbers("alignments3D_multi/pose", (count, 3))[rows, best],
        table.numbers("alignments3D_multi/shift", (count, 2))[rows, best],
        sizes,
    )


def _of_class_fields(
    table: CryosparcTable, classes: list[str]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
    """Ab-initio reconstruction and 3D classification: one group of fields a class."""
    vectors = np.stack([table.numbers(f"{name}/pose", (3,)) for name in classes])
    origins = np.stack([table.numbers(f"{name}/shift", (2,)) for name in classes])
    sizes = np.stack([_alignment_pixel_size(table, name) for name in classes])
    best = np.zeros(len(table), dtype=np.int64)
    if len(classes) > 1:
        best = np.stack([table.numbers(f"{name}/class_posterior") for name in classes]).argmax(axis=0)
        logger.info("%s: poses of each particle's most probable class of %d", table.source, len(classes))
    rows = np.arange(len(table))
    return vectors[best, rows], origins[best, rows], sizes[best, rows]

"""A particle file with other poses: in the format it came in, everything else as it was."""

import logging
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from cryoformer.errors import InputError
from cryoformer.files import atomic_path
from cryoformer.formats.convert import to_cryodrgn, to_star
from cryoformer.formats.relion.particles import POSE_COLUMNS
from cryoformer.formats.relion.star import particle_tables
from cryoformer.formats.relion.star_text import StarText, TableEdit
from cryoformer.formats.select import moved_names, moved_paths
from cryoformer.imaging.rotations import euler_from_matrix
from cryoformer.particles.particles import Particles

logger = logging.getLogger(__name__)


def posed_file(source: Path, folder: Path, pickles: bool = False) -> Path:
    """What :func:`write_poses` writes of the particles of ``source``.

    Raises:
        InputError: it would replace ``source``.
    """
    target = folder / ("poses.pkl" if pickles else f"particles{source.suffix.lower()}")
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{folder}: holds the particles whose poses are to be refined; give another --out")
    return target


def write_poses(particles: Particles, folder: Path, datadir: Path | None = None, pickles: bool = False) -> Path:
    """Write all particles of a file at their poses as they are now; no other column changes.

    Args:
        particles: all rows of ``particles.source``, in its order.
        folder: for ``particles.star`` or ``particles.cs``, whichever the source is.
        datadir: folder in which the image stacks were looked for first.
        pickles: cryoDRGN's files instead: poses.pkl, ctf.pkl, and a STAR file for the images.

    Returns:
        The file with the poses.
    """
    target = posed_file(particles.source, folder, pickles)
    if pickles:
        to_cryodrgn(particles, target, [particles.source], datadir)
    elif target.suffix == ".cs":
        _write_cryosparc(particles, target, datadir)
    else:
        _write_star(particles, target, datadir)
    return target


def _write_star(particles: Particles, target: Path, datadir: Path | None) -> None:
    star = StarText(particles.source)
    table, _ = particle_tables(star)
    origins = _origins(particles, table.columns)
    if not origins:
        logger.info("%s: has no columns for origins, so it is written anew with the columns that matter", target)
        to_star(particles, target, datadir)
        return
    values = dict(zip(POSE_COLUMNS, _decimals(euler_from_matrix(particles.rotations)), strict=True)) | origins
    moved = _moved(particles, target, datadir)
    if moved and particles.references is not None:
        values["rlnImageName"] = moved_names(star.frame(table)["rlnImageName"], particles.references, moved)
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        file.writelines(star.edited([TableEdit(table, None, values)]))


def _moved(particles: Particles, target: Path, datadir: Path | None) -> dict[str, Path]:
    if particles.references is None:
        return {}
    return moved_paths(particles.references.paths, particles.source, target, datadir)


def _origins(particles: Particles, columns: tuple[str, ...]) -> dict[str, list[str]]:
    """Columns of origins with their values, in every unit that the file has them in."""
    found: dict[str, list[str]] = {}
    origins = 0.0 - particles.shifts_angstrom
    for unit, size in (("Angst", np.ones(len(particles))), ("", particles.pixel_sizes_angstrom)):
        names = [f"rlnOrigin{axis}{unit}" for axis in "XY"]
        if all(name in columns for name in names):
            found |= dict(zip(names, _decimals(origins / size[:, None]), strict=True))
    return found


def _decimals(table: Float[np.ndarray, "n c"]) -> list[list[str]]:
    return [[f"{value:.6f}" for value in column] for column in table.T.tolist()]


def _write_cryosparc(particles: Particles, target: Path, datadir: Path | None) -> None:
    from cryoformer.formats.cryosparc.dataset import join_passthrough, read_dataset, write_csg, write_dataset
    from cryoformer.formats.cryosparc.particles import alignment_fields

    dataset = join_passthrough(read_dataset(particles.source), particles.source)
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
    moved, references = _moved(particles, target, datadir), particles.references
    if moved and references is not None:
        # A stack in the project's folder keeps its path, which is what cryoSPARC finds it by.
        old = np.asarray(dataset["blob/path"])
        new = [moved.get(references.paths[number]) for number in references.path_of_row.tolist()]
        dataset["blob/path"] = [path if place is None else str(place) for path, place in zip(old, new, strict=True)]
    write_dataset(dataset, target)
    write_csg(target, dataset.fields(), len(dataset))

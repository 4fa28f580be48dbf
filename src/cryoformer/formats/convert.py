"""Particle files turned into one another: RELION STAR, cryoSPARC ``.cs``, and cryoDRGN's pickles.

Poses, shifts, CTF and the references to images are kept in every direction, and half-sets and optics groups too; what
else a file says of its particles (micrographs, coordinates, scores) is not. Contrast is what only a ``.cs`` file says.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Literal

from cryoformer.errors import InputError
from cryoformer.formats.cryodrgn.particles import write_cryodrgn
from cryoformer.formats.cryosparc.particles import write_cryosparc
from cryoformer.formats.load import load_particles
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.images.normalisation import detect_sign
from cryoformer.particles.header_check import check_headers
from cryoformer.particles.particles import Particles
from cryoformer.particles.references import ImageReferences, candidates, open_images

logger = logging.getLogger(__name__)


def convert(
    source: Path,
    target: Path,
    *,
    datadir: Path | None = None,
    poses: Path | None = None,
    ctf: Path | None = None,
    invert: Literal["auto", "yes", "no"] = "auto",
) -> list[Path]:
    """Write the particles of ``source`` in the format of ``target``.

    Args:
        source: any file, or folder, that :func:`load_particles` reads. Its image stacks need not be there.
        target: a ``.star`` or ``.cs`` file (which gets a ``.csg`` beside it, for cryoSPARC's "Import Result Group"); or
            a folder, or a ``.pkl`` file, for cryoDRGN: poses.pkl (or that file), ctf.pkl and images.star, whose
            rows say which image is which.
        datadir: folder to look for the image stacks in first.
        poses: cryoDRGN's poses.pkl, where ``source`` only lists images.
        ctf: cryoDRGN's ctf.pkl, likewise.
        invert: whether a ``.cs`` file shall say that particles are dark: yes, no, or auto (what ``source`` says, or
            else the images).

    Returns:
        The files written.

    Raises:
        InputError: ``source`` cannot be read, ``target`` cannot say what it says, or would replace other data.
    """
    suffix = target.suffix.lower()
    is_folder = target.is_dir() or not suffix
    if not is_folder and suffix not in (".star", ".cs", ".pkl"):
        raise InputError(f"{target}: expected a name that ends in .star, .cs or .pkl, or a folder for cryoDRGN's files")
    particles = load_particles(source, datadir, poses=poses, ctf=ctf, require_images=False, require_ctf=False)
    read = [path for path in (source, particles.source, poses, ctf) if path is not None]
    particles = _with_images(particles, datadir)
    if is_folder:
        return to_cryodrgn(particles, target / "poses.pkl", read, datadir)
    if suffix == ".pkl":
        return to_cryodrgn(particles, target, read, datadir)
    _check_target(target, read)
    if suffix == ".star":
        to_star(particles, target, datadir)
        return [target]
    stack_paths = written_paths(_references(particles).paths, particles.source, target, datadir, beside=">")
    return [target, write_cryosparc(target, particles, stack_paths, _sign(particles, invert))]


def written_paths(
    paths: tuple[str, ...], source: Path, target: Path, datadir: Path | None, beside: str = ""
) -> list[str]:
    """How ``target`` shall name the stacks of ``source``.

    A path becomes relative to the folder of ``target`` where the stack lies in it, and absolute where it lies
    elsewhere. Stacks that are not on this machine keep the paths that they have.

    Args:
        beside: what stands before a path that is relative to the folder of ``target``.
    """
    folder = target.absolute().parent.resolve()
    written = []
    for path in paths:
        place = next((place for place in candidates(path, source, datadir) if place.is_file()), None)
        if place is None:
            written.append(path)
            continue
        found = place.absolute().parent.resolve() / place.name
        inside = found.is_relative_to(folder)
        written.append(f"{beside}{found.relative_to(folder).as_posix()}" if inside else str(found))
    return written


def _with_images(particles: Particles, datadir: Path | None) -> Particles:
    """The same particles with their stacks, where all of those are there."""
    references = _references(particles)
    missing = [
        path
        for path in references.paths
        if not any(place.is_file() for place in candidates(path, particles.source, datadir))
    ]
    if missing:
        logger.info("%s: %d of its image stacks are not here (such as %s); the paths are kept as they are",
                    particles.source, len(missing), missing[0])  # fmt: skip
        return particles
    stacks = open_images(references, particles.source, datadir)
    sizes = particles.pixel_sizes_angstrom
    check_headers(particles.source, stacks, particles.boxes, sizes, "the box", "the pixel size")
    return dataclasses.replace(particles, boxes=stacks.boxes, stacks=stacks)


def _references(particles: Particles) -> ImageReferences:
    if particles.references is None:
        raise InputError(f"{particles.source}: does not say which images its particles are")
    return particles.references


def _check_target(target: Path, read: list[Path]) -> None:
    if any(target.exists() and path.exists() and target.samefile(path) for path in read):
        raise InputError(f"{target}: is what the particles are read from; give another name")


def to_star(particles: Particles, target: Path, datadir: Path | None) -> None:
    """Write particles as a RELION 3.1 file."""
    references = _references(particles)
    paths = written_paths(references.paths, particles.source, target, datadir)
    if particles.declared_sign == -1:
        logger.info("%s: the particles are dark, which a STAR file cannot say", target)
    write_particles_star(
        target,
        [
            f"{index + 1:06d}@{paths[number]}"
            for index, number in zip(references.index_of_row.tolist(), references.path_of_row.tolist(), strict=True)
        ],
        particles.rotations,
        particles.shifts_angstrom,
        particles.ctf,
        particles.pixel_sizes_angstrom,
        particles.boxes,
        half_set=particles.half_set,
        premultiplied=particles.premultiplied,
        optics_group=particles.optics_group,
    )


def to_cryodrgn(particles: Particles, poses: Path, read: list[Path], datadir: Path | None) -> list[Path]:
    """Write pickles, and a STAR file for the images: only that can say any order of images, and their half-sets."""
    written = [poses, poses.with_name("ctf.pkl"), poses.with_name("images.star")]
    for path in written:
        _check_target(path, read)
    write_cryodrgn(written[0], written[1], particles)
    to_star(particles, written[2], datadir)
    return written


def _sign(particles: Particles, invert: Literal["auto", "yes", "no"]) -> int:
    """1 for white particles, -1 for dark ones."""
    if invert != "auto":
        return -1 if invert == "yes" else 1
    if particles.declared_sign is not None:
        return particles.declared_sign
    found = detect_sign(particles) if particles.stacks is not None and not particles.premultiplied.any() else None
    if found is None or not found.certain:
        raise InputError(
            f"{particles.source}: a .cs file says whether particles are dark or white, which "
            f"{'cannot be seen without the images' if found is None else 'the images do not show clearly'}; say it "
            "with --invert yes (dark) or --invert no (white)"
        )
    logger.info("%s: particles are %s, as the images show", particles.source, "white" if found.sign > 0 else "dark")
    return found.sign

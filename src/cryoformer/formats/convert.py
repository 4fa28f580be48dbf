"""Particle files turned into one another: RELION STAR, cryoSPARC ``.cs``, and cryoDRGN's pickles.

Poses, shifts, CTF and the references to images are kept in every direction, and half-sets and optics groups too; what
else a file says of its particles (micrographs, coordinates, scores) is not. Contrast is what only a ``.cs`` file says.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Literal

from cryoformer.errors import InputError
from cryoformer.formats.load import kind_to_write, open_particle_file
from cryoformer.formats.particle_file import same_file
from cryoformer.particles.contrast import detect_sign
from cryoformer.particles.header_check import check_headers
from cryoformer.particles.particles import Particles
from cryoformer.particles.references import find_stack, open_images

logger = logging.getLogger(__name__)


def convert(
    source: Path,
    target: Path,
    *,
    datadir: Path | None = None,
    poses: Path | None = None,
    ctf: Path | None = None,
    no_ctf: bool = False,
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
        no_ctf: that the images have no CTF.
        invert: contrast to record in a ``.cs`` file: yes for dark particles, no, or auto (what ``source`` says, or else
            the images).

    Returns:
        The files written.

    Raises:
        InputError: ``source`` cannot be read, ``target`` cannot say what it says, or would replace other data.
    """
    kind, target = kind_to_write(target)
    file = open_particle_file(source, datadir, poses=poses, ctf=ctf, no_ctf=no_ctf)
    read = file.read(require_images=False, require_ctf=False, require_poses=False)
    if not read.posed:
        logger.info("%s: has no poses in 3D; everything else is converted", source)
    particles = _with_images(read, datadir)
    for written in kind.files_written(target):
        if any(path is not None and same_file(written, path) for path in (source, file.path, poses, ctf)):
            raise InputError(f"{written}: is what the particles are read from; give another name")
    return kind.write(particles, target, datadir, _sign(particles, invert) if kind.says_contrast else None)


def _with_images(particles: Particles, datadir: Path | None) -> Particles:
    """The same particles with their stacks, where all of those are there."""
    references = particles.require_references()
    missing = [path for path in references.paths if find_stack(path, particles.source, datadir) is None]
    if missing:
        logger.info("%s: %d of its image stacks are not here (such as %s); the paths are kept as they are",
                    particles.source, len(missing), missing[0])  # fmt: skip
        return particles
    stacks = open_images(references, particles.source, datadir)
    sizes = particles.pixel_sizes_angstrom
    check_headers(particles.source, stacks, particles.boxes, sizes, "the box", "the pixel size")
    return dataclasses.replace(particles, boxes=stacks.boxes, stacks=stacks)


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

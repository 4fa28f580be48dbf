"""One way in for every kind of particle file: the suffix picks the reader."""

from collections.abc import Callable
from pathlib import Path

from cryoformer.errors import InputError
from cryoformer.formats.cryodrgn.particles import find_images, load_cryodrgn
from cryoformer.formats.cryosparc.particles import load_cryosparc
from cryoformer.formats.image_list import STACK_SUFFIXES, star_of_stack
from cryoformer.formats.relion.particles import load_relion
from cryoformer.particles.particles import Particles

# The seam for further formats: a reader has the signature of load_relion.
READERS: dict[str, Callable[..., Particles]] = {".star": load_relion, ".cs": load_cryosparc}

SUPPORTED = "a RELION STAR file (.star), a cryoSPARC file (.cs), or images (.mrcs, .txt) with cryoDRGN's poses and CTF"


def load_particles(
    path: Path | str,
    datadir: Path | str | None = None,
    *,
    poses: Path | str | None = None,
    ctf: Path | str | None = None,
    require_images: bool = True,
    require_ctf: bool = True,
) -> Particles:
    """Particles of a file, all metadata checked, no image read yet.

    Args:
        path: a RELION STAR file (.star), a cryoSPARC file (.cs), a stack (.mrcs, .mrc) or a list of stacks (.txt); or
            cryoDRGN's poses.pkl, or its folder, with ctf.pkl and the images beside it. A STAR file that stands beside
            a stack and refers to it is read instead of the stack.
        datadir: folder to look for the image stacks in first.
        poses: cryoDRGN's poses.pkl, used instead of the poses of the file.
        ctf: cryoDRGN's ctf.pkl, used instead of the CTF of the file.
        require_images: False loads the metadata alone.
        require_ctf: False allows files without CTF columns; their CTF is 1 at all frequencies.

    Raises:
        InputError: what is wrong with which file and row, and what to do.
    """
    path, folder = Path(path), None if datadir is None else Path(datadir)
    if poses is None and ctf is None and (path.is_dir() or path.suffix.lower() == ".pkl"):
        path, poses, ctf = find_images(path)
    if poses is not None or ctf is not None:
        if poses is None or ctf is None:
            given, missing = ("poses", "ctf") if ctf is None else ("ctf", "poses")
            raise InputError(f"--{given} is given without --{missing}; cryoDRGN's files belong together: give both")
        return load_cryodrgn(path, folder, poses=Path(poses), ctf=Path(ctf), require_images=require_images)
    suffix = path.suffix.lower()
    if suffix in STACK_SUFFIXES and path.is_file():
        star = star_of_stack(path)
        if star is not None:
            return load_relion(star, folder or path.parent, require_images=require_images, require_ctf=require_ctf)
    reader = READERS.get(suffix)
    if reader is None:
        if suffix in (".txt", *STACK_SUFFIXES):
            raise InputError(
                f"{path}: images alone hold no poses; give the STAR or .cs file that belongs to them, or cryoDRGN's "
                "files with --poses poses.pkl --ctf ctf.pkl"
            )
        raise InputError(f"{path}: cannot be read as particles (supported: {', '.join(READERS)}); give {SUPPORTED}")
    return reader(path, folder, require_images=require_images, require_ctf=require_ctf)

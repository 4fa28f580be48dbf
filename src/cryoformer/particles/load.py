"""One way in for every kind of particle file: the suffix picks the reader."""

from collections.abc import Callable
from pathlib import Path

from cryoformer.errors import InputError
from cryoformer.particles.particles import Particles
from cryoformer.particles.relion import load_relion

# The seam for further formats: a reader has the signature of load_relion.
READERS: dict[str, Callable[..., Particles]] = {".star": load_relion}

# Known, but not readable: what to give instead.
ADVICE = {
    ".cs": "export the particles from cryoSPARC as a RELION STAR file (csparc2star)",
    ".pkl": "give the STAR file that the poses and the CTF came from",
    ".txt": "give the STAR file that lists the stacks",
    ".mrcs": "a stack holds no poses; give the STAR file that belongs to it",
    ".mrc": "a stack holds no poses; give the STAR file that belongs to it",
}


def load_particles(
    path: Path | str, datadir: Path | str | None = None, *, require_images: bool = True, require_ctf: bool = True
) -> Particles:
    """Particles of a file, all metadata checked, no image read yet.

    Args:
        path: particle file (.star).
        datadir: folder to look for the image stacks in first.
        require_images: False loads the metadata alone.
        require_ctf: False allows files without CTF columns; their CTF is 1 at all frequencies.

    Raises:
        InputError: what is wrong with which file and row, and what to do.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        advice = ADVICE.get(path.suffix.lower(), "give a RELION particle STAR file")
        raise InputError(f"{path}: cannot be read as particles (supported: {', '.join(READERS)}); {advice}")
    folder = None if datadir is None else Path(datadir)
    return reader(path, folder, require_images=require_images, require_ctf=require_ctf)

"""One way in for every kind of particle file: here, and nowhere else, a path is taken for a kind of file."""

from dataclasses import replace
from pathlib import Path

from cryoformer.errors import InputError
from cryoformer.formats.cryodrgn.particle_file import CryodrgnFile, find_images
from cryoformer.formats.cryosparc.particle_file import CryosparcFile
from cryoformer.formats.job_folder import file_of_folder
from cryoformer.formats.particle_file import ParticleFile
from cryoformer.formats.relion.particle_file import RelionFile
from cryoformer.formats.stack_file import LIST_SUFFIX, StackFile
from cryoformer.particles.particles import ParticleFiles, Particles

# The seam for further formats.
KINDS: dict[str, type[ParticleFile]] = {
    ".star": RelionFile,
    ".cs": CryosparcFile,
    ".mrcs": StackFile,
    ".mrc": StackFile,
    LIST_SUFFIX: StackFile,
}
# Files with a row, and any columns, for every particle.
TABLES = tuple(suffix for suffix, kind in KINDS.items() if kind.suffix)

SUPPORTED = "a RELION STAR file (.star), a cryoSPARC file (.cs), or images (.mrcs, .txt) with cryoDRGN's poses and CTF"


def open_particle_file(
    path: Path | str,
    datadir: Path | str | None = None,
    *,
    poses: Path | str | None = None,
    ctf: Path | str | None = None,
    no_ctf: bool = False,
) -> ParticleFile:
    """The file at a path, as the kind that its suffix says; nothing of a table is read yet.

    Args:
        path: a RELION STAR file (.star), a cryoSPARC file (.cs), a stack (.mrcs, .mrc) or a list of stacks (.txt); or
            cryoDRGN's poses.pkl, with ctf.pkl and the images beside it; or the folder of a job that holds one of them.
        datadir: folder to look for the image stacks in first.
        poses: cryoDRGN's poses.pkl, used instead of the poses of the file.
        ctf: cryoDRGN's ctf.pkl, used instead of the CTF of the file.
        no_ctf: that the images have no CTF, or are corrected for it: it is 1, whatever the file says.

    Raises:
        InputError: no such kind of file, or files that belong together and are not all given.
    """
    path, folder = Path(path), None if datadir is None else Path(datadir)
    if path.is_dir():
        path = file_of_folder(path, with_poses=poses is not None)
    if poses is None and ctf is None and path.suffix.lower() == CryodrgnFile.suffix:
        lists, poses, ctf = find_images(path, no_ctf)
        path = _only_list(lists, folder)
    kind = KINDS.get(path.suffix.lower())
    if no_ctf:
        ctf = None
    if poses is not None or ctf is not None:
        if ctf is None and not no_ctf:
            raise InputError(
                "--poses is given without --ctf; cryoDRGN's files belong together: give both, or --no-ctf if the "
                "images have no CTF or are corrected for it"
            )
        if kind is None:
            raise InputError(f"{path}: cannot be read as images; expected .mrcs, .mrc, .txt, .star or .cs")
        return CryodrgnFile(
            kind(path, folder), None if poses is None else Path(poses), None if ctf is None else Path(ctf)
        )
    if kind is None:
        raise InputError(f"{path}: cannot be read as particles (supported: {', '.join(TABLES)}); give {SUPPORTED}")
    return kind(path, folder, no_ctf=no_ctf)


def _only_list(lists: list[Path], datadir: Path | None) -> Path:
    """The first of several lists of images, which must be the same images in the same order."""
    first, *others = (KINDS[path.suffix.lower()](path, datadir) for path in lists)
    for other in others:
        if not first.references.names_same_images(other.references):
            raise InputError(
                f"{first.path} and {other.path.name} list images in different orders; give the one that the pickles "
                "were made of by its name, with --poses and --ctf"
            )
    return first.path


def kind_to_write(target: Path) -> tuple[type[ParticleFile], Path]:
    """The kind of file that a path to be written asks for, and the path of its main file.

    Raises:
        InputError: no kind has this suffix.
    """
    suffix = target.suffix.lower()
    if target.is_dir() or not suffix:
        return CryodrgnFile, target / CryodrgnFile.posed_name
    if suffix == CryodrgnFile.suffix:
        return CryodrgnFile, target
    if suffix not in TABLES:
        raise InputError(f"{target}: expected a name that ends in .star, .cs or .pkl, or a folder for cryoDRGN's files")
    return KINDS[suffix], target


def load_particles(
    path: Path | str,
    datadir: Path | str | None = None,
    *,
    poses: Path | str | None = None,
    ctf: Path | str | None = None,
    no_ctf: bool = False,
    require_images: bool = True,
    require_ctf: bool = True,
) -> Particles:
    """Particles of a file, all metadata checked, no image read yet.

    Args:
        path, datadir, poses, ctf, no_ctf: as for :func:`open_particle_file`. Of a stack without poses, the STAR file
            that stands beside it and refers to it is read.
        require_images: False loads the metadata alone.
        require_ctf: False allows files without CTF columns; their CTF is 1 at all frequencies.

    Raises:
        InputError: what is wrong with which file and row, and what to do.
    """
    file = open_particle_file(path, datadir, poses=poses, ctf=ctf, no_ctf=no_ctf)
    particles = file.read(require_images=require_images, require_ctf=require_ctf)
    folder, pickles, table = (None if each is None else Path(each) for each in (datadir, poses, ctf))
    return replace(particles, files=ParticleFiles(Path(path), folder, pickles, table, no_ctf))

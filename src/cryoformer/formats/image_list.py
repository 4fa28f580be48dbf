"""Lists of images that come without poses: stacks, lists of stacks, and the references of STAR and ``.cs`` files.

A STAR file that belongs to a stack is used instead of the order of the stack's images, because whatever was made from
that file (poses, CTF) has its rows.
"""

import logging
import mmap
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer

from cryoformer.errors import InputError
from cryoformer.formats.cryosparc.particles import image_references
from cryoformer.formats.cryosparc.table import CryosparcTable
from cryoformer.formats.relion.particles import RelionTable, half_sets
from cryoformer.formats.relion.star import read_star_tables
from cryoformer.particles.references import ImageReferences, open_images, resolve_stacks, split_references
from cryoformer.particles.stack import ImageStacks, read_stack_header

logger = logging.getLogger(__name__)

STACK_SUFFIXES = (".mrcs", ".mrc")


@dataclass(frozen=True)
class ListedImages:
    """Which images there are, in which order, and what their list says besides; ``why`` this list, for messages."""

    source: Path
    references: ImageReferences
    stacks: ImageStacks | None
    half_set: Integer[np.ndarray, " n"] | None = None
    premultiplied: Bool[np.ndarray, " n"] | None = None
    optics_group: Integer[np.ndarray, " n"] | None = None
    why: str = ""


def list_images(path: Path, datadir: Path | None, require_images: bool) -> ListedImages:
    """The images of a stack, of a list of stacks, or of a STAR or ``.cs`` file.

    Raises:
        InputError: another kind of file, or one that cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in (".star", ".cs", ".txt", *STACK_SUFFIXES):
        raise InputError(f"{path}: cannot be read as images; expected .mrcs, .mrc, .txt, .star or .cs")
    if suffix == ".txt":
        stacks, paths = _stacks_of_list(path, datadir)
        return ListedImages(path, ImageReferences(paths, stacks.stack_of_row, stacks.index_of_row), stacks)
    if suffix in STACK_SUFFIXES:
        star = star_of_stack(path)
        if star is None:
            stacks = _whole_stacks([path], path)
            return ListedImages(path, ImageReferences((path.name,), stacks.stack_of_row, stacks.index_of_row), stacks)
        why = f" (it lists the images of {path.name}, and so decides their order)"
        return _listed_by_star(star, datadir or path.parent, require_images, why)
    if suffix == ".star":
        return _listed_by_star(path, datadir, require_images)
    table = CryosparcTable(path)
    references = image_references(table)
    return ListedImages(path, references, open_images(references, path, datadir) if require_images else None)


def _listed_by_star(path: Path, datadir: Path | None, require_images: bool, why: str = "") -> ListedImages:
    table = RelionTable(path, *read_star_tables(path))
    references = split_references(table.particles["rlnImageName"], path)
    return ListedImages(
        path,
        references,
        open_images(references, path, datadir) if require_images else None,
        half_sets(table),
        table.numbers("rlnCtfDataAreCtfPremultiplied", 0.0) != 0,
        table.optics_group,
        why,
    )


def star_of_stack(stack: Path) -> Path | None:
    """The STAR file beside a stack that refers to it: the one of its name, or else the only one.

    Raises:
        InputError: several STAR files refer to it, and none has its name.
    """
    name = re.compile(rb"[\s@/\"']" + re.escape(stack.name.encode()) + rb"[\s\"']")
    referring = [path for path in sorted(stack.parent.glob("*.star")) if _contains(path, name)]
    if stack.with_suffix(".star") in referring:
        referring = [stack.with_suffix(".star")]
    if len(referring) > 1:
        raise InputError(
            f"{stack}: {len(referring)} STAR files refer to it ({', '.join(path.name for path in referring[:4])}); "
            "give the one that belongs to the particles"
        )
    if not referring:
        return None
    logger.info("%s: belongs to %s, whose rows say which image is which", stack, referring[0])
    return referring[0]


def _contains(path: Path, pattern: re.Pattern[bytes]) -> bool:
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return pattern.search(content) is not None


def _stacks_of_list(path: Path, datadir: Path | None) -> tuple[ImageStacks, tuple[str, ...]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a list of stacks, one path a line")
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text; expected a list of stacks, one path a line") from error
    names = tuple(line for line in lines if line)
    if not names:
        raise InputError(f"{path}: lists no stacks; expected one path a line")
    if len(set(names)) < len(names):
        raise InputError(f"{path}: lists a stack twice; list every stack once")
    return _whole_stacks(resolve_stacks(names, path, datadir), path), names


def _whole_stacks(paths: list[Path], source: Path) -> ImageStacks:
    """All images of these stacks, one stack after the other."""
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise InputError(f"{missing}: no such file; expected a stack of images")
    headers = tuple(read_stack_header(path) for path in paths)
    counts = [header.count for header in headers]
    if sum(counts) == 0:
        raise InputError(f"{source}: holds no images")
    stack_of_row = np.repeat(np.arange(len(headers), dtype=np.int32), counts)
    return ImageStacks(headers, stack_of_row, np.concatenate([np.arange(count) for count in counts]))

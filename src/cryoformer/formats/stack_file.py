"""Images that come without a table: a stack, or a list of stacks, in the order in which they stand there."""

import logging
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cryoformer.errors import InputError
from cryoformer.formats.particle_file import ParticleFile
from cryoformer.formats.relion.particle_file import RelionFile, referring_files
from cryoformer.particles.particles import Particles
from cryoformer.particles.references import ImageReferences, resolve_stacks
from cryoformer.particles.stack import ImageStacks, read_stack_header

logger = logging.getLogger(__name__)

LIST_SUFFIX = ".txt"


class StackFile(ParticleFile):
    """A stack (.mrcs, .mrc) or a list of stacks (.txt). It must be there: the headers say how many images there are."""

    is_stacks = True

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """The stacks, as the file has them."""
        if self.path.suffix.lower() != LIST_SUFFIX:
            return (self.path.name,)
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such file; expected a list of stacks, one path a line")
        try:
            lines = [line.strip() for line in self.path.read_text().splitlines()]
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path}: is no text; expected a list of stacks, one path a line") from error
        names = tuple(line for line in lines if line)
        if not names:
            raise InputError(f"{self.path}: lists no stacks; expected one path a line")
        if len(set(names)) < len(names):
            raise InputError(f"{self.path}: lists a stack twice; list every stack once")
        return names

    @cached_property
    def stacks(self) -> ImageStacks:
        """All images, one stack after the other."""
        is_list = self.path.suffix.lower() == LIST_SUFFIX
        paths = resolve_stacks(self._names, self.path, self.datadir) if is_list else [self.path]
        if not is_list and not self.path.is_file():
            raise InputError(f"{self.path}: no such file; expected a stack of images")
        headers = tuple(read_stack_header(path) for path in paths)
        counts = [header.count for header in headers]
        stack_of_row = np.repeat(np.arange(len(headers), dtype=np.int32), counts)
        return ImageStacks(headers, stack_of_row, np.concatenate([np.arange(count) for count in counts]))

    @cached_property
    def references(self) -> ImageReferences:
        """Every image of the stacks."""
        return ImageReferences(self._names, self.stacks.stack_of_row, self.stacks.index_of_row)

    @property
    def pixel_sizes_angstrom(self) -> Float[np.ndarray, " n"]:
        """Of the headers of the stacks, for want of a table."""
        sizes = np.array([header.pixel_size_angstrom for header in self.stacks.headers])[self.stacks.stack_of_row]
        if not (sizes > 0).all():
            first = self.stacks.headers[self.stacks.stack_of_row[int(np.argmin(sizes))]].path
            raise InputError(f"{first}: its header says no pixel size; give a STAR file with it, or --ctf")
        return sizes

    def _read(self, require_images: bool, require_ctf: bool, posed: bool) -> Particles:
        """The particles of the STAR file beside the stack that refers to it."""
        star = None if self.path.suffix.lower() == LIST_SUFFIX or not self.path.is_file() else star_of_stack(self.path)
        if star is None:
            raise InputError(
                f"{self.path}: images alone hold no poses; give the STAR or .cs file that belongs to them, or "
                "cryoDRGN's files with --poses poses.pkl --ctf ctf.pkl"
            )
        table = RelionFile(star, self.datadir or self.path.parent, no_ctf=self.no_ctf)
        return table._read(require_images, require_ctf, posed)


def star_of_stack(stack: Path) -> Path | None:
    """The STAR file beside a stack that refers to it: the one of its name, or else the only one.

    Raises:
        InputError: several STAR files refer to it, and none has its name.
    """
    referring = referring_files(stack)
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

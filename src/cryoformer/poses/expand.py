"""Symmetry expansion: every image once at each of the views that its particle's symmetry makes alike.

What a single protomer does is then looked for as if it stood alone: `train` sees each of the g protomers of a particle
in the same place once. The rows of an image are its own copies, so they belong to the same half of the particles
(:mod:`cryoformer.particles.repeats`), whether the file has half-sets or not.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from cryoformer.errors import InputError
from cryoformer.files import check_output
from cryoformer.formats.load import open_particle_file
from cryoformer.poses.symmetry import rotation_group

SUFFIX = ".star"


def expand(source: Path, out: Path, symmetry: str, datadir: Path | None = None) -> str:
    """The particles of a STAR file at all views R g, g of the group, into the folder ``out``; one sentence.

    Args:
        symmetry: C2, .., D2, .., T, O or I, the highest axis along z.

    Raises:
        InputError: no such group, or one of nothing but identity; another kind of file; one that is there.
    """
    group = rotation_group(symmetry).double().numpy()
    if len(group) == 1:
        raise InputError(f"--symmetry {symmetry}: every particle looks alike from one side alone; nothing to expand")
    listed = open_particle_file(source, datadir)
    if listed.suffix != SUFFIX:
        raise InputError(f"{source}: only .star files are expanded; in cryoSPARC use its symmetry expansion")
    target = listed.posed_path(out)
    if target.exists():
        raise InputError(f"{target}: exists; give another --out")
    count = len(listed.read(require_images=False))
    check_output(out)
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out))
    try:
        listed.write_rows(np.repeat(np.arange(count), len(group)), folder / f"rows{SUFFIX}")
        copies = open_particle_file(folder / f"rows{SUFFIX}", datadir)
        particles = copies.read(require_images=False)
        turned = particles.rotations @ np.tile(group, (count, 1, 1))
        copies.write_posed(replace(particles, rotations=turned), out)
    finally:
        shutil.rmtree(folder)
    return f"{target}: {count} particles of {symmetry} at {len(group)} views each, {count * len(group)} rows"

"""Poses from nothing: ``abinitio``."""

from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional, arg

from cryoformer.cli.arguments import NOTHING_GIVEN, OutFolder, Reading, Unposed, UnposedOptions, app, optional


@app.command
def abinitio(
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    out: OutFolder,
    symmetry: Annotated[str, arg(metavar="GROUP")] = "C1",
    max_minutes: Annotated[float | None, optional("M")] = None,
    flip: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    source: Unposed = UnposedOptions(),  # noqa: B008
    reading: Reading = NOTHING_GIVEN,
) -> None:
    """Find poses and a map from images with CTF alone; the same command goes on after a stop.

    Args:
        particles: Particle file with CTF (.star, .cs), or images (.mrcs, .txt) with --ctf. Its poses are not looked at.
        out: Folder for the particle file with poses, the map, half maps, uncertainties and the record.
        symmetry: Point group of the particles: C1, C2, .., D2, D3, .., T, O or I; its highest axis will lie along z.
        max_minutes: Time after which nothing else is tried.
        flip: Write the other hand, which images cannot tell from the first; of a folder that is finished, at once.
        source: Where its images are, and their CTF.
        reading: How images are read. Train with the same seed, which draws the two halves where the file has none.
    """
    from cryoformer.poses.abinitio_run import find_poses

    print(find_poses(source.of(particles), out, reading.settings(), symmetry, max_minutes, flip))

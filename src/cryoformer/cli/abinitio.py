"""Poses from nothing: ``abinitio``."""

from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional, arg

from cryoformer.cli.arguments import NOTHING_GIVEN, OptionalFile, OptionalFolder, OutFolder, Reading, app, optional


@app.command
def abinitio(
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    out: OutFolder,
    datadir: OptionalFolder = None,
    ctf: OptionalFile = None,
    no_ctf: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    symmetry: Annotated[str, arg(metavar="GROUP")] = "C1",
    max_minutes: Annotated[float | None, optional("M")] = None,
    flip: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    reading: Reading = NOTHING_GIVEN,
) -> None:
    """Find poses and a map from images with CTF alone; the same command goes on after a stop.

    Args:
        particles: Particle file with CTF (.star, .cs), or images (.mrcs, .txt) with --ctf. Its poses are not looked at.
        out: Folder for the particle file with poses, the map, half maps, uncertainties and the record.
        datadir: Folder to look for the image stacks in first.
        ctf: cryoDRGN's ctf.pkl, for images without CTF.
        no_ctf: The images have no CTF, or are corrected for it: take it as 1, whatever the file says.
        symmetry: Point group of the particles: C1, C2, .., D2, D3, .., T, O or I; its highest axis will lie along z.
        max_minutes: Time after which nothing else is tried.
        flip: Write the other hand, which images cannot tell from the first; of a folder that is finished, at once.
        reading: How images are read. Train with the same seed, which draws the two halves where the file has none.
    """
    from cryoformer.formats.particle_input import ParticleInput
    from cryoformer.poses.abinitio_run import find_poses

    source = ParticleInput(particles, datadir, None, ctf, no_ctf=no_ctf)
    print(find_poses(source, out, reading.settings(), symmetry, max_minutes, flip))

"""Poses that are roughly known: ``refine``."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from cryoformer.cli.arguments import NOTHING_GIVEN, OptionalFile, OptionalFolder, OutFolder, Reading, app, optional


@app.command
def refine(
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    out: OutFolder,
    datadir: OptionalFolder = None,
    poses: OptionalFile = None,
    ctf: OptionalFile = None,
    no_ctf: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    search: Literal["local", "cone", "global"] = "local",
    cone: Annotated[float | None, optional("DEGREES")] = None,
    symmetry: Annotated[str, arg(metavar="GROUP")] = "C1",
    reading: Reading = NOTHING_GIVEN,
) -> None:
    """Improve poses that are roughly known, and say how far off they were; the same command goes on after a stop.

    Args:
        particles: Particle file with poses and CTF (.star, .cs), or images (.mrcs, .txt) with --poses and --ctf.
        out: Folder for the particle file with better poses, their uncertainties and the record.
        datadir: Folder to look for the image stacks in first.
        poses: cryoDRGN's poses.pkl, for images without poses.
        ctf: cryoDRGN's ctf.pkl, for images without CTF.
        no_ctf: The images have no CTF, or are corrected for it: take it as 1, whatever the file says.
        search: local looks near the poses given; cone finds poses that may be anywhere within an angle of those given;
            global finds them from nothing, in the frame of those given and of their hand.
        cone: That angle (default: 90 degrees).
        symmetry: Point group of the particles: C1, C2, .., D2, D3, .., T, O or I, its highest axis along z.
        reading: How images are read. Train with the same seed, which draws the two halves where the file has none.
    """
    from cryoformer.formats.particle_input import ParticleInput
    from cryoformer.poses.refine import refine as run

    source = ParticleInput(particles, datadir, poses, ctf, no_ctf=no_ctf)
    print(run(source, out, reading.settings(), search, symmetry, cone))

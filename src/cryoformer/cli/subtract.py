"""Particles of one part that moves: ``subtract``."""

from typing import Annotated

from tyro.conf import arg

from cryoformer.cli.arguments import OptionalFile, OptionalFolder, OutFolder, RunPath, app


@app.command
def subtract(
    run: RunPath,
    /,
    *,
    part: Annotated[int, arg(metavar="M")],
    out: OutFolder,
    particles: OptionalFile = None,
    datadir: OptionalFolder = None,
) -> None:
    """Write the particles of one part that moves: the rest taken off the images, the part in their middle, its poses.

    RELION and cryoSPARC refine them further as particles of their own.

    Args:
        run: Folder of a run that has parts.
        part: Which part, from 1.
        out: Folder for particles.star and particles.mrcs.
        particles: Particle file of the run, where it is no longer found.
        datadir: Folder to look for the image stacks in first.
    """
    from cryoformer.run.subtract import subtract as run_subtract

    print(run_subtract(run, part, out, particles, datadir))

"""Particles of one part that moves: ``subtract``."""

from typing import Annotated

from tyro.conf import arg

from cryoformer.cli.arguments import WHERE_IT_WAS, OutFolder, Place, RunPath, app


@app.command
def subtract(
    run: RunPath,
    /,
    *,
    part: Annotated[int, arg(metavar="M")],
    out: OutFolder,
    where: Place = WHERE_IT_WAS,
) -> None:
    """Write the particles of one part that moves: the rest taken off the images, the part in their middle, its poses.

    RELION and cryoSPARC refine them further as particles of their own.

    Args:
        run: Folder of a run that has parts.
        part: Which part, from 1.
        out: Folder for particles.star and particles.mrcs.
        where: Where the particles of the run are, if no longer where they were.
    """
    from cryoformer.run.subtract import subtract as run_subtract

    print(run_subtract(run, part, out, where.particles, where.datadir))

"""Poses that are roughly known: ``refine``."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cryoformer.cli.arguments import AS_IT_IS, NOTHING_GIVEN, OutFolder, Reading, Source, app, optional


@app.command
def refine(
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    out: OutFolder,
    search: Literal["local", "cone", "global"] = "local",
    cone: Annotated[float | None, optional("DEGREES")] = None,
    symmetry: Annotated[str, arg(metavar="GROUP")] = "C1",
    source: Source = AS_IT_IS,
    reading: Reading = NOTHING_GIVEN,
) -> None:
    """Improve poses that are roughly known, and say how far off they were; the same command goes on after a stop.

    Args:
        particles: Particle file with poses and CTF (.star, .cs), or images (.mrcs, .txt) with --poses and --ctf.
        out: Folder for the particle file with better poses, their uncertainties and the record.
        search: local looks near the poses given; cone finds poses that may be anywhere within an angle of those given;
            global finds them from nothing, in the frame of those given and of their hand.
        cone: That angle (default: 90 degrees).
        symmetry: Point group of the particles: C1, C2, .., D2, D3, .., T, O or I, its highest axis along z.
        source: Where its images are, and what belongs to them.
        reading: How images are read. Train with the same seed, which draws the two halves where the file has none.
    """
    from cryoformer.poses.refine import refine as run

    print(run(source.of(particles), out, reading.settings(), search, symmetry, cone))

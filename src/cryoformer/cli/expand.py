"""Symmetry expansion: ``expand``."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cryoformer.cli.arguments import OptionalFolder, OutFolder, app


@app.command
def expand(
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    out: OutFolder,
    symmetry: Annotated[str, arg(metavar="GROUP")],
    datadir: OptionalFolder = None,
) -> None:
    """Repeat every particle at all views that its symmetry makes alike, to look for what one protomer does.

    Args:
        particles: Particle file with poses (.star), its symmetry axes where --symmetry has them.
        out: Folder for the particle file, all its columns kept.
        symmetry: Point group of the particles: C2, C3, .., D2, D3, .., T, O or I, its highest axis along z.
        datadir: Folder to look for the image stacks in first.
    """
    from cryoformer.poses.expand import expand as run

    print(run(particles, out, symmetry, datadir))

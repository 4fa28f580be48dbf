"""Particle files turned into one another: ``convert``."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cryoformer.cli.arguments import AS_IT_IS, Source, app


@app.command
def convert(
    source: Positional[Annotated[Path, arg(metavar="FROM")]],
    target: Positional[Annotated[Path, arg(metavar="TO")]],
    /,
    *,
    invert: Literal["auto", "yes", "no"] = "auto",
    options: Source = AS_IT_IS,
) -> None:
    """Convert a particle file between RELION (.star), cryoSPARC (.cs) and cryoDRGN (a folder, or poses.pkl).

    Args:
        source: Particle file, or a folder with cryoDRGN's poses.pkl and ctf.pkl and the images.
        target: File to write (.star or .cs), or a folder for cryoDRGN's poses.pkl, ctf.pkl and images.star.
        invert: Contrast to record in a .cs file: yes for dark particles, no for white ones, auto to detect it.
        options: Where the images of FROM are, and what belongs to them.
    """
    from cryoformer.formats.convert import convert as run

    for path in run(source, target, **vars(options), invert=invert):
        print(path)

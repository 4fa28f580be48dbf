"""Particle files turned into one another: ``convert``."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from cryoformer.cli.arguments import OptionalFile, OptionalFolder, app


@app.command
def convert(
    source: Positional[Annotated[Path, arg(metavar="FROM")]],
    target: Positional[Annotated[Path, arg(metavar="TO")]],
    /,
    *,
    datadir: OptionalFolder = None,
    poses: OptionalFile = None,
    ctf: OptionalFile = None,
    no_ctf: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    invert: Literal["auto", "yes", "no"] = "auto",
) -> None:
    """Convert a particle file between RELION (.star), cryoSPARC (.cs) and cryoDRGN (a folder, or poses.pkl).

    Args:
        source: Particle file, or a folder with cryoDRGN's poses.pkl and ctf.pkl and the images.
        target: File to write (.star or .cs), or a folder for cryoDRGN's poses.pkl, ctf.pkl and images.star.
        datadir: Folder to look for the image stacks in first.
        poses: cryoDRGN's poses.pkl, where FROM only lists images.
        ctf: cryoDRGN's ctf.pkl, where FROM only lists images.
        no_ctf: The images have no CTF, or are corrected for it: take it as 1, whatever the file says.
        invert: Contrast to record in a .cs file: yes for dark particles, no for white ones, auto to detect it.
    """
    from cryoformer.formats.convert import convert as run

    for path in run(source, target, datadir=datadir, poses=poses, ctf=ctf, no_ctf=no_ctf, invert=invert):
        print(path)

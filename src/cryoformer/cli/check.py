"""A look at a particle file and its images: ``check``."""

from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional, arg

from cryoformer.cli.arguments import NOTHING_GIVEN, OptionalFile, OptionalFolder, Reading, app


@app.command
def check(
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    datadir: OptionalFolder = None,
    poses: OptionalFile = None,
    ctf: OptionalFile = None,
    no_ctf: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    reading: Reading = NOTHING_GIVEN,
) -> None:
    """Look at a particle file and all of its images, as every command does before its work, and say what they are.

    Args:
        particles: Particle file (.star, .cs), or images (.mrcs, .txt) with --poses and --ctf.
        datadir: Folder to look for the image stacks in first.
        poses: cryoDRGN's poses.pkl, for images without poses.
        ctf: cryoDRGN's ctf.pkl, for images without CTF.
        no_ctf: The images have no CTF, or are corrected for it: take it as 1, whatever the file says.
        reading: How images are read.
    """
    from cryoformer.formats.load import open_particle_file
    from cryoformer.images.preparation import choose_sign
    from cryoformer.memory import check_memory
    from cryoformer.particles import check_count, check_images
    from cryoformer.particles.summary import summary

    settings = reading.settings()
    file = open_particle_file(particles, datadir, poses=poses, ctf=ctf, no_ctf=no_ctf)
    found = file.read(require_poses=False)
    for line in summary(found):
        print(line, flush=True)
    check_count(found)
    check_memory(found.box, settings.device)
    check_images(found, settings.normalise)
    choose_sign(found, settings.invert)
    print(f"{particles}: every image can be read")

"""A look at a particle file and its images: ``check``."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cryoformer.cli.arguments import AS_IT_IS, NOTHING_GIVEN, Reading, Source, app


@app.command
def check(
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    source: Source = AS_IT_IS,
    reading: Reading = NOTHING_GIVEN,
) -> None:
    """Look at a particle file and all of its images, as every command does before its work, and say what they are.

    Args:
        particles: Particle file (.star, .cs), or images (.mrcs, .txt) with --poses and --ctf.
        source: Where its images are, and what belongs to them.
        reading: How images are read.
    """
    from cryoformer.images.preparation import choose_sign
    from cryoformer.memory import check_memory
    from cryoformer.particles import check_count, check_images
    from cryoformer.particles.summary import summary

    settings = reading.settings()
    found = source.of(particles).open().read(require_poses=False)
    for line in summary(found):
        print(line, flush=True)
    check_count(found)
    check_memory(found.box, settings.device)
    check_images(found, settings.normalise)
    choose_sign(found, settings.invert)
    print(f"{particles}: every image can be read")

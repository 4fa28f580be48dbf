"""Poses that are roughly known: ``refine``."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cryoformer.cli.arguments import Folder, OptionalFile, OptionalFolder, app


@app.command
def refine(
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    out: Folder,
    datadir: OptionalFolder = None,
    poses: OptionalFile = None,
    ctf: OptionalFile = None,
    seed: Annotated[int, arg(metavar="K")] = 0,
    device: Annotated[str, arg(metavar="NAME")] = "cpu",
    memory_gib: Annotated[float, arg(metavar="GIB")] = 2.0,
    invert: Literal["auto", "yes", "no"] = "auto",
    normalise: Literal["yes", "no"] = "yes",
    ctf_applied: Literal["auto", "none", "phases", "multiplied"] = "auto",
) -> None:
    """Improve poses that are roughly known, and say how far off they were; the same command goes on after a stop.

    Args:
        particles: Particle file with poses and CTF (.star, .cs), or images (.mrcs, .txt) with --poses and --ctf.
        out: Folder for the particle file with better poses, their uncertainties and the record.
        datadir: Folder to look for the image stacks in first.
        poses: cryoDRGN's poses.pkl, for images without poses.
        ctf: cryoDRGN's ctf.pkl, for images without CTF.
        seed: Seed of the two halves, where the file has none; train with the same one.
        device: cpu, cuda or cuda:1.
        memory_gib: Memory for images; what does not fit is read from disk.
        invert: Whether to invert the contrast: yes for dark particles, no for white ones, auto to detect it.
        normalise: Whether to bring the background of every image to mean 0 and standard deviation 1.
        ctf_applied: What was done to the images: nothing, phases flipped, multiplied by the CTF, or as the file says.
    """
    from cryoformer.formats.particle_input import ParticleInput
    from cryoformer.poses.refine import refine as run
    from cryoformer.poses.rounds import ImageSettings

    settings = ImageSettings(invert, normalise == "yes", ctf_applied, memory_gib, device, seed)
    print(run(ParticleInput(particles, datadir, poses, ctf), out, settings))

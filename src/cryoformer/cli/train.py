"""Runs: ``train``, ``volumes`` and ``evaluate``."""

import json
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from cryoformer.cli.arguments import (
    NOTHING_GIVEN,
    Folder,
    OptionalFile,
    OptionalFolder,
    Reading,
    RunPath,
    Settings,
    app,
    load_latents,
    parse_particles,
    parse_settings,
)
from cryoformer.errors import InputError


@app.command
def train(
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    out: Folder,
    recipe: OptionalFile = None,
    preset: Literal["quick", "default", "paper"] = "default",
    datadir: OptionalFolder = None,
    poses: OptionalFile = None,
    ctf: OptionalFile = None,
    ind: OptionalFile = None,
    random: Annotated[int | None, arg(metavar="N")] = None,
    half: Annotated[int | None, arg(metavar="1|2")] = None,
    max_minutes: Annotated[float | None, arg(metavar="M")] = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    reading: Reading = NOTHING_GIVEN,
    settings: Settings = (),
) -> None:
    """Reconstruct: a latent coordinate for every particle and a density for every point of the latent space.

    A flag overrides the recipe, and the recipe overrides the preset.

    Args:
        particles: Particle file with poses and CTF (.star, .cs), or images (.mrcs, .txt) with --poses and --ctf.
        out: Folder of the run.
        recipe: Settings as a YAML file.
        preset: Starting point of the settings.
        datadir: Folder to look for the image stacks in first.
        poses: cryoDRGN's poses.pkl, for images without poses.
        ctf: cryoDRGN's ctf.pkl, for images without CTF.
        ind: Rows to use, counted from 0: .npy, .txt with one a line, or cryoDRGN's .pkl.
        random: How many particles to draw at random.
        half: Half-set to use, as the file has it, or by the seed.
        max_minutes: Stop in good order after this time.
        resume: Continue the run in the output folder where it stopped.
        reading: How images are read.
        settings: Any other setting, such as --set model.queries=32.
    """
    from cryoformer.formats.particle_input import ParticleInput
    from cryoformer.run.train import train as run

    result = run(
        ParticleInput(particles, datadir, poses, ctf, ind, random, half),
        out,
        recipe=recipe,
        preset=preset,
        max_minutes=max_minutes,
        resume=resume,
        overrides=parse_settings(settings) | reading.given(),
    )
    print(result)


@app.command
def volumes(
    run: RunPath,
    /,
    *,
    out: Folder,
    particles: Annotated[str | None, arg(metavar="3,17,42")] = None,
    latents: OptionalFile = None,
) -> None:
    """Write the density of some particles, or at some points of the latent space, as MRC volumes.

    Args:
        run: Folder of a run.
        out: Folder for the volumes.
        particles: Particles by their place in the input, counted from 0: 3,17,42.
        latents: Latent points, one a row, as a .npy file.
    """
    from cryoformer.files import write_mrc_volume
    from cryoformer.run.run_folder import open_run

    finished = open_run(run)
    count, dimensions = finished.latents_mean.shape
    if particles is not None and latents is None:
        indices = parse_particles(particles, count)
        names = [f"particle_{index:06d}.mrc" for index in indices]
        maps = finished.particle_volumes(indices)
    elif latents is not None and particles is None:
        points = load_latents(latents, dimensions)
        names = [f"latent_{place:04d}.mrc" for place in range(len(points))]
        maps = finished.latent_volumes(points)
    else:
        raise InputError("volumes: give either --particles 3,17,42 or --latents FILE.npy")
    for name, volume in zip(names, maps, strict=True):
        write_mrc_volume(out / name, volume, finished.pixel_size_angstrom)
        print(out / name)


@app.command
def evaluate(run: RunPath, /, *, truth: Folder) -> None:
    """Compare a run with the ground truth of its simulation; prints FSC and latent metrics as JSON.

    Args:
        run: Folder of a run.
        truth: Folder of the simulation (truth.npz and gt/).
    """
    from cryoformer.assess.evaluate import evaluate as run_evaluation

    print(json.dumps(run_evaluation(run, truth), indent=2, default=lambda array: array.tolist()))

"""Runs: ``train``, ``volumes`` and ``evaluate``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from cryoformer.cli.arguments import (
    NOTHING_GIVEN,
    Folder,
    OptionalFile,
    OutFolder,
    Reading,
    RowOptions,
    Rows,
    RunPath,
    Settings,
    app,
    load_latents,
    optional,
    parse_particles,
    parse_settings,
)
from cryoformer.errors import InputError


@dataclass(frozen=True)
class TrainingOptions:
    """What a run is made of. A flag overrides the recipe, and the recipe overrides the preset.

    Attributes:
        preset: Starting point of the settings.
        recipe: Settings as a YAML file, the config.yaml of another run for one.
        mask: Solvent mask (MRC) instead of the one that is found; a map of a larger box, as long in Angstrom, will do.
        focus: Mask of where motion is looked for; elsewhere the density does not vary.
        ignore: Mask of where no motion is looked for, such as a micelle or nucleic acid; its density stays.
        zdim: Dimensions of the latent space to start with; those that the images do not support vanish.
        epochs: Epochs at every resolution.
        settings: Any other setting, such as --set model.queries=32 (docs/settings.md lists them).
    """

    preset: Literal["quick", "default", "paper"] = "default"
    recipe: OptionalFile = None
    mask: OptionalFile = None
    focus: OptionalFile = None
    ignore: OptionalFile = None
    zdim: Annotated[int | None, optional("K")] = None
    epochs: Annotated[float | None, optional("N")] = None
    settings: Settings = ()

    def given(self) -> dict[str, Any]:
        """The settings that were given by name."""
        given = parse_settings(self.settings)
        if self.zdim is not None:
            given["subspace"] = {**given.get("subspace", {}), "dimension": self.zdim}
        if self.epochs is not None:
            given["epochs"] = self.epochs
        masks = {"mask": self.mask, "focus": self.focus, "ignore": self.ignore}
        return given | {name: str(path.resolve()) for name, path in masks.items() if path is not None}


Training = Annotated[TrainingOptions, arg(name="training"), tyro.conf.OmitArgPrefixes]


@app.command
def train(
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    out: OutFolder,
    devices: Annotated[int | None, optional("N")] = None,
    max_minutes: Annotated[float | None, optional("M")] = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    log: OptionalFile = None,
    training: Training = TrainingOptions(),
    rows: Rows = RowOptions(),  # noqa: B008
    reading: Reading = NOTHING_GIVEN,
) -> None:
    """Reconstruct: a latent coordinate for every particle and a density for every point of the latent space.

    Args:
        particles: Particle file with poses and CTF (.star, .cs), or images (.mrcs, .txt) with --poses and --ctf.
        out: Folder of the run.
        devices: Processes on this machine, one for each GPU (default: 1); torchrun starts them on several machines.
        max_minutes: Time for this call. A run that it cuts short says so, and goes on with --resume.
        resume: Go on with the run in the output folder where it stopped.
        log: File to write the log to as well; it is in the run's log.txt in any case.
        training: What the run is made of. A flag overrides the recipe, and the recipe overrides the preset.
        rows: Which particles of the file are used (all, if nothing is given), and where their images are.
        reading: How images are read, and where the work is done.
    """
    from cryoformer.run.train import train as run

    result = run(
        rows.of(particles),
        out,
        recipe=training.recipe,
        preset=training.preset,
        max_minutes=max_minutes,
        resume=resume,
        overrides=training.given() | reading.given() | ({} if devices is None else {"devices": devices}),
        log_file=log,
    )
    if result:
        print(result)


@app.command
def volumes(
    run: RunPath,
    /,
    *,
    out: OutFolder,
    particles: Annotated[str | None, optional("3,17,42")] = None,
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
    count, dimensions = finished.latents.shape
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

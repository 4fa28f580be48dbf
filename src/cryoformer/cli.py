"""The ``cryoformer`` command: parse, call one function, print.

Whatever is heavy is imported inside the commands, so that ``--version`` and ``--help`` answer at once. Errors of the
user's input are one line on stderr and exit code 2; an interrupt is exit code 130.
"""

import contextlib
import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from cryoformer import __version__
from cryoformer.errors import InputError

if TYPE_CHECKING:
    import numpy as np

DESCRIPTION = "Continuous heterogeneous reconstruction for cryo-EM."

RunPath = Positional[Annotated[Path, arg(metavar="RUN")]]
Folder = Annotated[Path, arg(metavar="DIR")]
OptionalFile = Annotated[Path | None, arg(metavar="FILE")]
OptionalFolder = Annotated[Path | None, arg(metavar="DIR")]
Settings = Annotated[UseAppendAction[tuple[str, ...]], arg(name="set", metavar="KEY=VALUE")]

app = tyro.extras.SubcommandApp()


@app.command
def simulate(
    models: Positional[Annotated[tuple[Path, ...], arg(metavar="START [END ...]")]] = (),
    /,
    *,
    out: Folder,
    recipe: OptionalFile = None,
    images: Annotated[int | None, arg(metavar="N")] = None,
    box: Annotated[int | None, arg(metavar="D")] = None,
    pixel_size: Annotated[float | None, arg(metavar="A")] = None,
    snr: Annotated[float | None, arg(metavar="S")] = None,
    seed: Annotated[int | None, arg(metavar="K")] = None,
    moving: Annotated[str | None, arg(metavar="B:331-528")] = None,
    settings: Settings = (),
) -> None:
    """Simulate a particle stack with ground truth from atomic models of one molecule.

    Models, --images, --box, --pixel-size and --snr are needed, here or in the recipe. A flag overrides the recipe.

    Args:
        models: Atomic models (.cif or .pdb), in the order of the motion.
        out: Folder for particles.mrcs, particles.star, truth.npz, gt/ and models/; new or empty.
        recipe: Settings as a YAML file.
        images: Number of images.
        box: Image side in pixels, even.
        pixel_size: Pixel size in Angstrom.
        snr: Variance of the clean images after CTF over the variance of the noise.
        seed: The same seed gives the same stack.
        moving: Domains that move, as chain and residues; found by superposition if not given.
        settings: Any other setting of the simulation, such as --set states=20.
    """
    from cryoformer.simulate.config import SimulateConfig
    from cryoformer.simulate.stack import simulate as run

    flags: dict[str, Any] = {"images": images, "box": box, "pixel_size_angstrom": pixel_size, "snr": snr, "seed": seed}
    flags |= {"moving": moving, "models": models or None}
    chosen = parse_settings(settings) | {key: value for key, value in flags.items() if value is not None}
    config = (
        SimulateConfig(out=out, **chosen) if recipe is None else SimulateConfig.from_yaml(recipe, out=out, **chosen)
    )
    print(run(config, show_progress=sys.stderr.isatty()))


@app.command
def train(
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    out: Folder,
    recipe: OptionalFile = None,
    preset: Literal["quick", "default", "paper"] = "default",
    datadir: OptionalFolder = None,
    max_minutes: Annotated[float | None, arg(metavar="M")] = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    seed: Annotated[int | None, arg(metavar="K")] = None,
    device: Annotated[str | None, arg(metavar="NAME")] = None,
    precision: Literal["auto", "32"] | None = None,
    invert: Literal["auto", "yes", "no"] | None = None,
    settings: Settings = (),
) -> None:
    """Reconstruct: a latent coordinate for every particle and a density for every point of the latent space.

    A flag overrides the recipe, and the recipe overrides the preset.

    Args:
        particles: Particle file with poses and CTF (.star).
        out: Folder of the run.
        recipe: Settings as a YAML file.
        preset: Starting point of the settings.
        datadir: Folder to look for the image stacks in first.
        max_minutes: Stop in good order after this time.
        resume: Continue the run in the output folder where it stopped.
        seed: Seed of everything random.
        device: cpu, cuda, cuda:1, or auto.
        precision: Arithmetic of the training: 32, or auto (what the device does well; so far 32).
        invert: Whether to invert the contrast: yes for dark particles, no for white ones, auto to detect it.
        settings: Any other setting, such as --set model.queries=32.
    """
    from cryoformer.reconstruct.train import train as run

    flags = {"seed": seed, "device": device, "precision": precision, "invert": invert}
    overrides = parse_settings(settings) | {key: value for key, value in flags.items() if value is not None}
    result = run(
        particles,
        out,
        recipe=recipe,
        preset=preset,
        datadir=datadir,
        max_minutes=max_minutes,
        resume=resume,
        overrides=overrides,
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
    from cryoformer.reconstruct.run_directory import open_run

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


@app.command
def analyze(run: RunPath, /, *, truth: OptionalFolder = None) -> None:
    """Write the report of a run: landscape, conformations, moving regions and resolution, as report.html.

    Args:
        run: Folder of a run.
        truth: Folder of the simulation, if there is one, to compare with.
    """
    from cryoformer.explore.report import write_report

    print(write_report(run, truth))


@app.command
def demo(*, out: Folder) -> None:
    """Simulate a small moving protein, reconstruct it, compare with the truth and write the report.

    Args:
        out: Folder for everything that the demo makes.
    """
    from cryoformer.demo import run_demo

    print(run_demo(out))


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """``("model.queries=32", "seed=1")`` as ``{"model": {"queries": 32}, "seed": 1}``; values are read as YAML."""
    import yaml

    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        *groups, name = key.strip().split(".")
        if not equals or not name or not all(groups):
            raise InputError(f"--set {setting}: expected KEY=VALUE, such as model.queries=32")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {setting}: '{text}' is no YAML value ({' '.join(str(error).split())})") from error
        if isinstance(value, str):
            # YAML takes 1e-3 for a word.
            with contextlib.suppress(ValueError):
                value = float(value)
        target = parsed
        for group in groups:
            target = target.setdefault(group, {})
            if not isinstance(target, dict):
                raise InputError(f"--set {setting}: {group} is set to a value and to a group of settings")
        target[name] = value
    return parsed


def parse_particles(text: str, count: int) -> "np.ndarray":
    """``3,17,42`` as indices of ``count`` particles."""
    import numpy as np

    try:
        indices = np.array([int(part) for part in text.split(",")], dtype=np.int64)
    except ValueError as error:
        raise InputError(f"--particles {text}: expected whole numbers with commas between, such as 3,17,42") from error
    outside = indices[(indices < 0) | (indices >= count)]
    if len(outside):
        raise InputError(f"--particles: there is no particle {outside[0]}; the run has {count}, counted from 0")
    return indices


def load_latents(path: Path, dimensions: int) -> "np.ndarray":
    """Latent points [m, k] of a .npy file; a single point may be one row without a table around it."""
    import numpy as np

    try:
        points = np.atleast_2d(np.load(path, allow_pickle=False)).astype(np.float32)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"--latents {path}: cannot be read as a table of numbers in .npy form ({error})") from error
    if points.ndim != 2 or points.shape[1] != dimensions:
        raise InputError(
            f"--latents {path}: shape {points.shape}; expected one point a row, with the run's {dimensions} coordinates"
        )
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise InputError(f"--latents {path}: row {row + 1} holds NaN or infinite values; remove it")
    return points


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 2 for wrong input, 130 for an interrupt."""
    # OpenMP threads that wait for each other should sleep: spinning, they lose two thirds of the speed wherever another
    # program wants a core. Read once, when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        print(f"cryoformer {__version__}")
        return 0
    # What the library has to say (contrast, pixel sizes, progress) goes to stderr; stdout is for results.
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("cryoformer").setLevel(logging.INFO)
    try:
        app.cli(args=given, prog="cryoformer", description=f"{DESCRIPTION} Version {__version__} (--version).")
    except InputError as error:
        print(f"cryoformer: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"cryoformer: interrupted; {_how_to_go_on(given)}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as head, has seen enough; keep the interpreter's last flush from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _how_to_go_on(given: list[str]) -> str:
    if given[:1] == ["train"]:
        return f"go on with: {shlex.join(['cryoformer', *given, *([] if '--resume' in given else ['--resume'])])}"
    return f"start again with: {shlex.join(['cryoformer', *given])}"

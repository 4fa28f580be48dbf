"""A run from particles and settings to a folder: what it begins with, and how it is continued."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryoformer import __version__
from cryoformer.errors import InputError
from cryoformer.files import write_npy
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.particles import Particles, check_images
from cryoformer.progress import said_before
from cryoformer.run.readme import readme
from cryoformer.run.run_folder import RunPaths
from cryoformer.run.stages import Reconstruction
from cryoformer.training.train_config import TrainConfig, load_config


def train(
    source: ParticleInput,
    out: Path,
    *,
    particles: Particles | None = None,
    recipe: Path | None = None,
    preset: str = "default",
    max_minutes: float | None = None,
    resume: bool = False,
    overrides: dict[str, Any] | None = None,
    log_file: Path | None = None,
) -> str:
    """Reconstruct the particles of ``source`` into the folder ``out``; returns one sentence on how it ended.

    Args:
        source: the particles.
        out: folder of the run, new or empty, or the run to ``resume``.
        particles: those of ``source``, where they are loaded already.
        recipe: settings as a YAML file; a run's config.yaml is one.
        preset: what settings start from.
        max_minutes: time for this call, after which it ends with what it has, and says so.
        resume: go on with the run in ``out``, one that was cut short by ``max_minutes`` included.
        overrides: settings by name; see :func:`.load_config`.
        log_file: where the log goes besides the run's log.txt.

    Raises:
        InputError: anything wrong with files or settings. A start that fails leaves nothing behind.
    """
    if max_minutes is not None and not (max_minutes > 0 and math.isfinite(max_minutes)):
        raise InputError(f"--max-minutes {max_minutes:g}: expected a number above 0")
    if log_file is not None and not log_file.parent.is_dir():
        raise InputError(f"--log {log_file}: there is no folder {log_file.parent}")
    paths = RunPaths(Path(out))
    with said_before() as said:
        if resume:
            config, source = _settings_of(paths, source)
            if paths.is_done:
                return f"{out}: this run is finished; nothing to do"
            particles = source.load_again(paths.rows)
        else:
            config = load_config(preset, recipe, overrides)
            if paths.root.exists() and (not paths.root.is_dir() or any(paths.root.iterdir())):
                raise InputError(f"{out}: exists and is not empty: choose another folder, or continue with --resume")
            particles = particles or source.load(config.seed)
        check_images(particles)
    try:
        if not resume:
            _begin(paths, particles, _facts(source, preset, max_minutes, config))
        return Reconstruction(paths, particles, config, max_minutes, said=said, log_file=log_file).run()
    except Exception:
        if not resume:
            paths.clear_start()
        raise


def _begin(paths: RunPaths, particles: Particles, facts: dict[str, Any]) -> None:
    paths.root.mkdir(parents=True, exist_ok=True)
    if particles.rows is not None:
        write_npy(paths.rows, particles.rows)
    paths.readme.write_text(readme(str(paths.root), "Not finished (yet): go on with --resume if nothing works on it."))
    # Last: with it, the folder is a run, which --resume goes on with.
    paths.write_config(facts)


def _settings_of(paths: RunPaths, given: ParticleInput) -> tuple[TrainConfig, ParticleInput]:
    facts = paths.read_config()
    recorded = ParticleInput.from_facts(facts)
    if recorded.particles != given.particles.resolve():
        raise InputError(
            f"{paths.root}: this run is of {recorded.particles}, not of {given.particles}: give that file, or a new "
            "--out"
        )
    # Images may have moved since; everything else is as it was.
    return load_config("default", None, facts["settings"]), replace(recorded, datadir=given.datadir or recorded.datadir)


def _facts(source: ParticleInput, preset: str, max_minutes: float | None, config: TrainConfig) -> dict[str, Any]:
    return {
        "cryoformer": __version__,
        "command": " ".join(["cryoformer", *sys.argv[1:]]),
        **source.facts(),
        "preset": preset,
        "max_minutes": max_minutes,
        "settings": config.model_dump(mode="json"),
    }

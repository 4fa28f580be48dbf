"""A run from particles and settings to a folder: what it begins with, and how it is continued."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryoformer import __version__
from cryoformer.errors import InputError
from cryoformer.files import write_npy
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.particles import Particles, check_images
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
) -> str:
    """Reconstruct the particles of ``source`` into the folder ``out``; returns one sentence on how it ended.

    Args:
        particles: those of ``source``, where they are loaded already.

    Raises:
        InputError: anything wrong with files or settings, before anything is written.
    """
    paths = RunPaths(Path(out))
    if resume:
        config, source = _settings_of(paths, source)
        if paths.checkpoint("model").exists():
            return f"{out}: this run is finished; nothing to do"
        particles = source.load_again(paths.rows)
    else:
        config = load_config(preset, recipe, overrides)
        if paths.root.exists() and (not paths.root.is_dir() or any(paths.root.iterdir())):
            raise InputError(f"{out}: exists and is not empty: choose another folder, or continue with --resume")
        particles = particles or source.load(config.seed)
    check_images(particles)
    if not resume:
        paths.root.mkdir(parents=True, exist_ok=True)
        paths.write_config(_facts(source, preset, max_minutes, config))
        if particles.rows is not None:
            write_npy(paths.rows, particles.rows)
    return Reconstruction(paths, particles, config, max_minutes).run()


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

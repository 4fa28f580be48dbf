"""A run from particles and settings to a folder: what it begins with, and how it is continued."""

import math
import sys
from pathlib import Path
from typing import Any

from cryoformer import __version__
from cryoformer.errors import InputError
from cryoformer.files import write_npy
from cryoformer.formats.particle_input import ParticleInput, Reopened, reopen
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
            config, known = _settings_of(paths, source)
            if paths.is_done:
                return f"{out}: this run is finished; nothing to do"
            particles = known.read(paths.rows)
        else:
            config = load_config(preset, recipe, overrides)
            if paths.root.exists() and (not paths.root.is_dir() or any(paths.root.iterdir())):
                raise InputError(f"{out}: exists and is not empty: choose another folder, or continue with --resume")
            particles = particles or source.load(config.seed)
        check_images(particles, config.normalise)
    try:
        if not resume:
            _begin(paths, particles, _facts(source, particles.fingerprint, preset, max_minutes, config))
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


def _settings_of(paths: RunPaths, given: ParticleInput) -> tuple[TrainConfig, Reopened]:
    """The settings that a run began with, and its particle file: as given now, for files move."""
    facts = paths.read_config()
    recorded = ParticleInput.from_facts(facts).particles
    same_place = given.particles.resolve() == recorded or not given.particles.exists()
    try:
        known = reopen(paths.root, facts, None if same_place else given.particles, given.datadir)
    except InputError as error:
        raise InputError(
            f"{paths.root}: this run is of {recorded}, not of {given.particles} ({error}): give that file, or a new "
            "--out"
        ) from None
    if not same_place and not known.recorded:
        # Runs of version 0.1.0 know their particle file by its place alone.
        raise InputError(
            f"{paths.root}: this run is of {recorded}, not of {given.particles}: give that file, or a new --out"
        )
    return load_config("default", None, facts["settings"]), known


def _facts(
    source: ParticleInput, record: dict[str, Any] | None, preset: str, max_minutes: float | None, config: TrainConfig
) -> dict[str, Any]:
    return {
        "cryoformer": __version__,
        "command": " ".join(["cryoformer", *sys.argv[1:]]),
        **source.facts(),
        "fingerprint": record,
        "preset": preset,
        "max_minutes": max_minutes,
        "settings": config.model_dump(mode="json"),
    }

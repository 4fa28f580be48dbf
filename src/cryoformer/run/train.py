"""A run from particles and settings to a folder: what it begins with, and how it is continued."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cryoformer import __version__
from cryoformer.communication import Processes
from cryoformer.errors import InputError
from cryoformer.files import check_output, write_npy
from cryoformer.formats.fingerprint import pixel_marks
from cryoformer.formats.particle_input import ParticleInput, Reopened, reopen
from cryoformer.images.shard import Shard
from cryoformer.linear.regions import read_regions
from cryoformer.memory import check_memory
from cryoformer.particles import Particles, check_count, check_images
from cryoformer.progress import said_before, time_limit
from cryoformer.run.processes import joined, start, started
from cryoformer.run.readme import readme
from cryoformer.run.run_folder import RunPaths
from cryoformer.run.stages import Reconstruction
from cryoformer.training.train_config import TrainConfig, load_config

# Bytes that a run writes at least: maps and checkpoints, latents with their covariance.
ROOM_PER_VOXEL = 60
ROOM_PER_PARTICLE = 300


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

    Several processes share the work where torchrun has started them, or settings ask for them (``devices``); the first
    one returns the sentence.

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
        ProcessLost: one of several processes has died; the run can be resumed, with any number of them.
    """
    time_limit(max_minutes)
    if log_file is not None and not log_file.parent.is_dir():
        raise InputError(f"--log {log_file}: there is no folder {log_file.parent}")
    paths = RunPaths(Path(out))
    given: dict[str, Any] = {"recipe": recipe, "preset": preset, "max_minutes": max_minutes, "overrides": overrides}
    known: ParticleInput | Reopened
    config, known = _settings_of(paths, source) if resume else (load_config(preset, recipe, overrides), source)
    devices = (overrides or {}).get("devices", config.devices) if resume else config.devices
    if resume and paths.is_done:
        return f"{out}: this run is finished; nothing to do"
    if devices > 1 and not started():
        if not resume:
            _check_empty(paths)
        work = partial(train, source, out, particles=particles, resume=resume, log_file=log_file, **given)
        return start(devices, work)
    with joined(config.device, config.precision) as (fabric, processes):
        with said_before() as said:
            if not resume:
                processes.on_first(partial(_check_empty, paths))
            particles = processes.agree(lambda: _load(known, config.seed, paths, particles))
            processes.agree(partial(_check_fits, particles, config, paths))
            if not resume:
                processes.agree(partial(_check_masks, particles, config))
            processes.agree(partial(_check_images, particles, config.normalise, processes))
        try:
            if not resume:
                facts = _facts(source, particles, preset, max_minutes, config)
                processes.on_first(partial(_begin, paths, particles, facts))
            run = Reconstruction(paths, particles, config, max_minutes, fabric, said=said, log_file=log_file)
            verdict = run.run()
        except Exception:
            if not resume and processes.first:
                paths.clear_start()
            raise
        return verdict if processes.first else ""


def _check_empty(paths: RunPaths) -> None:
    if paths.root.exists() and (not paths.root.is_dir() or any(paths.root.iterdir())):
        raise InputError(f"{paths.root}: exists and is not empty: choose another folder, or continue with --resume")
    check_output(paths.root)


def _check_fits(particles: Particles, config: TrainConfig, paths: RunPaths) -> None:
    """That they are enough, and that memory and disk are."""
    check_memory(particles.box, config.device, config.components)
    check_count(particles)
    check_output(paths.root, ROOM_PER_VOXEL * particles.box**3 + ROOM_PER_PARTICLE * len(particles))


def _check_masks(particles: Particles, config: TrainConfig) -> None:
    """That masks which are given are masks of these particles."""
    box = particles.box - particles.box % 2
    pixel_size = float((particles.pixel_sizes_angstrom * particles.boxes / box).min())
    read_regions(config.mask, config.focus, config.ignore, box, pixel_size)


def _load(source: ParticleInput | Reopened, seed: int, paths: RunPaths, loaded: Particles | None) -> Particles:
    """The particles; of a run that goes on, those that it began with."""
    return source.read(paths.rows) if isinstance(source, Reopened) else loaded or source.load(seed)


def _check_images(particles: Particles, normalise: bool, processes: Processes) -> None:
    """Every process looks at its own, and warns of them."""
    if processes.size == 1:
        check_images(particles, normalise)
        return
    shard = Shard.dealt(len(particles), processes)
    logger = logging.getLogger("cryoformer")
    before = logger.level
    logger.setLevel(logging.WARNING)
    check_images(particles.subset(np.arange(shard.start, shard.stop)), normalise, rows_before=shard.start)
    logger.setLevel(before)


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
    same_place = given.particles.resolve() == recorded
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
    source: ParticleInput, particles: Particles, preset: str, max_minutes: float | None, config: TrainConfig
) -> dict[str, Any]:
    record = particles.fingerprint
    return {
        "cryoformer": __version__,
        "command": " ".join(["cryoformer", *sys.argv[1:]]),
        **source.facts(),
        "fingerprint": record and record | {"pixels": pixel_marks(particles)},
        "preset": preset,
        "max_minutes": max_minutes,
        "settings": config.model_dump(mode="json"),
    }

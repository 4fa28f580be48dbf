"""The package from Python: what ``import cryoformer`` offers beside :func:`~cryoformer.run.run_folder.open_run`."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryoformer.errors import InputError
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.particles import Particles
from cryoformer.run.run_folder import Run, open_run
from cryoformer.run.train import train as train_into_folder

logger = logging.getLogger(__name__)


def load_particles(
    path: Path | str,
    datadir: Path | str | None = None,
    *,
    poses: Path | str | None = None,
    ctf: Path | str | None = None,
    ind: Path | str | None = None,
    random: int | None = None,
    half: int | None = None,
    seed: int = 0,
) -> Particles:
    """Particles of a file, all metadata checked, no image read yet.

    Args:
        path: a RELION STAR file, a cryoSPARC file (.cs), or images (.mrcs, .txt) with cryoDRGN's poses and CTF.
        datadir: folder to look for the image stacks in first.
        poses, ctf: cryoDRGN's poses.pkl and ctf.pkl.
        ind: file of the rows to use, counted from 0 (.npy, .txt, .pkl).
        random: how many particles to draw.
        half: half-set to use, 1 or 2.
        seed: of the draw, and of the halves where the file has none.

    Raises:
        InputError: what is wrong with which file and row, and what to do.
    """
    datadir, poses, ctf, ind = (None if each is None else Path(each) for each in (datadir, poses, ctf, ind))
    return ParticleInput(Path(path), datadir, poses, ctf, ind, random, half).load(seed)


def train(
    particles: Particles | Path | str,
    out: Path | str,
    *,
    max_minutes: float | None = None,
    preset: str = "default",
    recipe: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Run:
    """Reconstruct particles into the folder ``out``, as ``cryoformer train`` does.

    Args:
        particles: of :func:`load_particles`, or their file.
        out: folder of the run.
        max_minutes: time it may take.
        preset: "default", "quick" or "paper".
        recipe: settings as a YAML file.
        settings: any other, dotted names reaching into groups: ``{"model.queries": 32, "seed": 1}``.
        resume: go on with a run that was stopped.

    Returns:
        The finished run.

    Raises:
        InputError: anything wrong with files or settings, before anything is written.
    """
    if isinstance(particles, Particles):
        source, loaded = _source_of(particles), particles
    else:
        source, loaded = ParticleInput(Path(particles)), None
    verdict = train_into_folder(
        source,
        Path(out),
        particles=loaded,
        recipe=None if recipe is None else Path(recipe),
        preset=preset,
        max_minutes=max_minutes,
        resume=resume,
        overrides=dict(settings or {}),
    )
    logger.info(verdict)
    return open_run(out)


def _source_of(particles: Particles) -> ParticleInput:
    files = particles.files
    if files is None:
        raise InputError(f"{particles.source}: particles that were made in memory; write them to a file and load that")
    return ParticleInput(files.path, files.datadir, files.poses, files.ctf, no_ctf=files.no_ctf)

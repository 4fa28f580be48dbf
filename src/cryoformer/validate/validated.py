"""What is validated: a finished run with its particles, or particles alone, ready for the tests."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.checkpoint import load_tensors
from cryoformer.formats.job_folder import holds_particles
from cryoformer.formats.particle_input import ParticleInput, reopen
from cryoformer.images.fourier_images import FourierImages, Images
from cryoformer.images.streamed import prepare_images
from cryoformer.imaging.grids import crop_volume
from cryoformer.linear.consensus import Consensus, reconstruct_consensus
from cryoformer.linear.linear_stage import drawn_rows
from cryoformer.linear.occupancy import fitted_occupancy
from cryoformer.linear.regions import EVERYWHERE, regions_of_run
from cryoformer.memory import check_memory
from cryoformer.particles import Particles, check_count, check_images
from cryoformer.progress import RunLog
from cryoformer.run.images import as_known
from cryoformer.run.run_folder import Run, RunPaths, open_run
from cryoformer.training.train_config import TrainConfig, load_config


@dataclass(frozen=True)
class Validated:
    """Particles as the tests want them.

    Attributes:
        source: which particles.
        particles: their poses and CTFs.
        config: settings of the run; the defaults for particles alone.
        run: the run, if there is one.
        images: all images, at their own box.
        low: at most ``config.subspace.images`` of them at the box of stage B, in memory.
        density: the consensus at that box.
        mask: what is occupied in it.
        moving: what may vary of that, where the run was told; None: all of it.
    """

    source: ParticleInput
    particles: Particles
    config: TrainConfig
    run: Run | None
    images: Images
    low: FourierImages
    density: Float[Tensor, "d d d"]
    mask: Float[Tensor, "d d d"]
    moving: Float[Tensor, "d d d"] | None = None


@contextmanager
def opened(path: Path, source: ParticleInput, reading: Mapping[str, Any]) -> Iterator[Validated]:
    """Read a run (a folder) or a particle file. Images that do not fit into memory have a cache as long as this lasts.

    Args:
        source: where to find images, poses and CTFs, where the file or the run does not say it (or not any more).
        reading: image settings that are given. A run keeps its own, but for the memory.

    Raises:
        InputError: neither a run nor particles, or their images are gone.
    """
    if path.is_dir() and not holds_particles(path):
        run: Run | None = open_run(path)
        source, config, particles = _of_run(RunPaths(path), source)
        config = config.model_copy(update={name: reading[name] for name in ("memory_gib",) if name in reading})
    else:
        run, config = None, load_config(overrides=dict(reading))
        particles = source.load(config.seed)
    check_memory(particles.box)
    check_count(particles)
    check_images(particles, config.normalise)
    with TemporaryDirectory(prefix="cryoformer_") as cache:
        with RunLog(None) as log:
            log.stage("reading images")
            # Whatever the run was trained on: the tests work on the CPU.
            images = prepare_images(particles, Path(cache) / "cache", config.model_copy(update={"device": "cpu"}))
            ready = _ready(source, particles, config, run, images)
        yield ready


def _of_run(paths: RunPaths, given: ParticleInput) -> tuple[ParticleInput, TrainConfig, Particles]:
    facts = paths.read_config()
    named = given.particles if given.particles != paths.root else None
    known = reopen(paths.root, facts, named, given.datadir)
    return known.source, load_config("default", None, facts["settings"]), known.read(paths.rows)


def _ready(
    source: ParticleInput, particles: Particles, config: TrainConfig, run: Run | None, images: Images
) -> Validated:
    if run is not None:
        images = as_known(images, run, focused=True)
    low = images.crop(min(config.subspace.box, images.box))
    some = low.draw(drawn_rows(torch.arange(len(low)), config.subspace.images, config.seed))
    if run is None:
        consensus = reconstruct_consensus(some)
    else:
        consensus = Consensus(**load_tensors(RunPaths(run.path).checkpoint("consensus"))[0])
    noise, density = consensus.noise_power, crop_volume(consensus.volume, some.box)
    some = replace(some, noise_power=noise[: some.box // 2 + 1])
    regions = EVERYWHERE if run is None else regions_of_run(RunPaths(run.path).volumes).at(some.box)
    mask = fitted_occupancy(some, consensus) if regions.solvent is None else regions.solvent
    # Noise may occupy nothing at all.
    mask = mask if bool(mask.any()) else torch.ones_like(mask)
    if run is not None:
        images = images.with_noise(noise)
    return Validated(source, particles, config, run, images, some, density, mask, regions.moving)

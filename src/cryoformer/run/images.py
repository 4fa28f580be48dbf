"""The images of a finished run, as its model wants to see them: their noise known, their contrast part of the CTF."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cryoformer.checkpoint import load_tensors
from cryoformer.formats.particle_file import ParticleFile
from cryoformer.formats.particle_input import reopen
from cryoformer.images.fourier_images import Images
from cryoformer.images.streamed import prepare_images
from cryoformer.memory import check_memory
from cryoformer.particles import Particles
from cryoformer.run.run_folder import Run, RunPaths
from cryoformer.training.orientation import ReadPoses
from cryoformer.training.train_config import load_config


@contextmanager
def images_of_run(
    run: Run,
    particles: Path | None = None,
    datadir: Path | None = None,
    *,
    focused: bool = False,
    whole: bool = False,
) -> Iterator[tuple[Images, ParticleFile, Particles]]:
    """Images in the order of the run, with halves as it has them, the file they come from, and its table.

    What does not fit into memory has a cache as long as this lasts.

    Args:
        particles, datadir: where particle file and stacks are now.
        focused: without what moves outside of the run's focus, as its network saw them. That motion was fitted to both
            halves of the images: for half maps they stay as they are.
        whole: with their edges as they are, which the network may not have seen.

    Raises:
        InputError: the particles are gone, or are others by now.
    """
    paths = RunPaths(run.path)
    known = reopen(run.path, run.config, particles, datadir)
    table = known.read(paths.rows)
    check_memory(table.box)
    settings = load_config("default", None, run.config["settings"]).model_copy(update={"device": "cpu"})
    if whole:
        settings = settings.model_copy(update={"soft_edges": "no"})
    noise = load_tensors(paths.checkpoint("consensus"))[0]["noise_power"]
    with TemporaryDirectory(prefix="cryoformer_") as cache:
        images = prepare_images(table, Path(cache) / "cache", settings)
        yield as_known(images.with_noise(noise), run, focused=focused), known.file, table


def as_known(images: Images, run: Run, *, focused: bool) -> Images:
    """Images with the contrasts, and at the poses, that a run found; ``focused``: as for :func:`images_of_run`.

    Raises:
        InputError: its orientation encoder read poses, and the images are not in memory.
    """
    images = images.with_contrast(torch.from_numpy(run.contrast))
    poses = RunPaths(run.path).checkpoint("poses")
    if poses.exists():
        images = ReadPoses(**load_tensors(poses)[0]).applied(images)
    return images.minus_motion(run.off_focus) if focused and run.off_focus is not None else images

"""A finished run for the tests of states."""

from pathlib import Path

import numpy as np
import pytest

from cryoformer.formats.particle_input import ParticleInput
from cryoformer.run.train import train
from toy_images import SMALL, simulate, write_particles


@pytest.fixture(scope="session")
def swinging_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A run of seconds on 600 images of a blob that swings, and where the blob is in every image (0 to 1)."""
    folder = tmp_path_factory.mktemp("swinging")
    images = simulate(600, noise=0.7, seed=3)
    train(ParticleInput(write_particles(images, folder)), folder / "run", overrides=dict(SMALL))
    return folder / "run", images.t

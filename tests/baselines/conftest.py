"""The moving blob of the reconstruction's tests, as images and as a stack on disk with its truth."""

from pathlib import Path

import numpy as np
import pytest

from cryoformer.files import write_mrc_volume
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.imaging.fourier import fourier_to_images
from cryoformer.particles.stack_writer import StackWriter
from toy_images import BOX, PIXEL, simulate

COUNT, STATES = 400, 4


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a stack: particles.star, particles.mrcs, truth.npz and gt/."""
    folder = tmp_path_factory.mktemp("stack")
    made = simulate(COUNT, noise=0.5, seed=3)
    writer = StackWriter(folder, COUNT, BOX, np.dtype(np.float32), [PIXEL], COUNT)
    writer.write(fourier_to_images(made.images.coefficients, BOX).numpy())
    writer.finish()
    write_particles_star(
        folder / "particles.star",
        image_names=[f"{i + 1:06d}@particles.mrcs" for i in range(COUNT)],
        rotations=made.images.rotations.numpy().astype(np.float64),
        shifts_angstrom=np.zeros((COUNT, 2)),
        ctf=made.ctf,
        pixel_size_angstrom=PIXEL,
        box=BOX,
        half_set=None,
    )
    state_t = (np.arange(STATES) + 0.5) / STATES
    for index, t in enumerate(state_t):
        write_mrc_volume(folder / "gt" / f"state_{index:02d}.mrc", made.density(float(t)).numpy(), PIXEL)
    np.savez(folder / "truth.npz", t=made.t, state_t=state_t)
    return folder

"""A small molecule that moves, imaged by the package's own microscope: a still body and a blob that swings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryoformer.formats.relion.star import write_particles_star
from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.ctf import CTFParameters, contrast_transfer
from cryoformer.imaging.fourier import fourier_to_images
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.rotations import uniform_rotations

BOX, PIXEL = 24, 5.0
# Settings of a run of seconds.
SMALL: dict[str, object] = {
    "subspace": {"box": 16, "dimension": 2, "iterations": 5},
    "stages": [{"box": 16, "epochs": 12, "batch": 32}, {"box": 24, "epochs": 4, "batch": 32}],
    "model": {"queries": 8, "channels": 8, "hash_levels": 4, "hash_table_log2": 10, "encoder_layers": 2},
    "latent_states": 16,
    "parts": 0,
    "invert": "no",
}


@dataclass
class Simulated:
    """Images with what made them."""

    images: FourierImages
    t: np.ndarray  # [n], the motion's coordinate in [0, 1]
    still: torch.Tensor  # [D, D, D]
    ctf: CTFParameters

    def density(self, t: float) -> torch.Tensor:
        return self.still + blob(moving_centre(t), 8.0)


def blob(centre: tuple[float, float, float], sigma: float) -> torch.Tensor:
    distance = grid_points(BOX, PIXEL) - torch.tensor(centre)
    return torch.exp(-distance.square().sum(dim=1) / (2 * sigma**2)).reshape(BOX, BOX, BOX)


def moving_centre(t: float) -> tuple[float, float, float]:
    return (30.0, 40.0 * (t - 0.5), 5.0)


def white_images(
    coefficients: torch.Tensor, rotations: torch.Tensor, noise: float, ctf: torch.Tensor | None = None
) -> FourierImages:
    """Images of any box at the toy's pixel size, whose noise is white, of this deviation a pixel; halves in turn."""
    count, box = coefficients.shape[:2]
    return FourierImages(
        rotations=rotations,
        scale=torch.ones(count),
        halves=torch.arange(count) % 2,
        noise_power=torch.full((box // 2 + 1,), noise**2 * box**2),
        pixel_size_angstrom=PIXEL,
        voxel_angstrom=PIXEL,
        coefficients=coefficients,
        ctf=torch.ones(count, box, box // 2 + 1) if ctf is None else ctf,
    )


def simulate(count: int, noise: float, seed: int = 0, moves: bool = True) -> Simulated:
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 1, count) if moves else np.full(count, 0.5)
    still = blob((0.0, 0.0, 0.0), 14.0) + blob((-20.0, 10.0, 15.0), 8.0) + blob((-5.0, -20.0, -20.0), 8.0)
    rotations = torch.tensor(uniform_rotations(count, seed), dtype=torch.float32)
    one = torch.ones(count)
    defocus = torch.tensor(rng.uniform(8000, 16000, count), dtype=torch.float32)
    ctf = CTFParameters(defocus, defocus + 200, 30 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one)
    transfer = contrast_transfer(ctf, BOX, PIXEL)
    density = torch.stack([(still + blob(moving_centre(x), 8.0)).reshape(-1) for x in t.tolist()])
    clean = splat_project(density, grid_points(BOX, PIXEL), rotations, None, BOX, PIXEL) * transfer
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.fft.rfft2(noise * torch.randn(count, BOX, BOX, generator=generator)) + clean
    images = white_images(noisy, rotations, noise, transfer)
    return Simulated(images, t, still, ctf)


@pytest.fixture(scope="session")
def moving() -> Simulated:
    """600 images at a signal-to-noise ratio of about one half."""
    return simulate(600, noise=0.7)


@pytest.fixture(scope="session")
def particle_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kind of data as a RELION stack on disk, 300 images."""
    return write_particles(simulate(300, noise=0.7, seed=3), tmp_path_factory.mktemp("particles"))


def write_particles(made: Simulated, folder: Path) -> Path:
    """As a RELION stack on disk."""
    count = len(made.t)
    stack = fourier_to_images(made.images.coefficients, BOX).numpy()
    with mrcfile.new(folder / "particles.mrcs") as file:
        file.set_data(stack.astype(np.float32))
        file.voxel_size = PIXEL
    write_particles_star(
        folder / "particles.star",
        image_names=[f"{i + 1:06d}@particles.mrcs" for i in range(count)],
        rotations=made.images.rotations.numpy().astype(np.float64),
        shifts_angstrom=np.zeros((count, 2)),
        ctf=made.ctf,
        pixel_size_angstrom=PIXEL,
        box=BOX,
        half_set=None,
    )
    return folder / "particles.star"


@pytest.fixture
def small_run(particle_file: Path) -> Callable[..., str]:
    """``small_run(out, resume=False, max_minutes=None, **overrides)``: a run of seconds on ``particle_file``."""
    from cryoformer.formats.particle_input import ParticleInput
    from cryoformer.run.train import train

    def run(out: Path, resume: bool = False, max_minutes: float | None = None, **overrides: object) -> str:
        return train(
            ParticleInput(particle_file),
            out,
            resume=resume,
            max_minutes=max_minutes,
            overrides=None if resume else SMALL | overrides,
        )

    return run

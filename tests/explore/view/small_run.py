"""A finished run made in a moment: an untrained network whose density changes with the latent, and simulated images."""

from pathlib import Path

import mrcfile
import numpy as np
import torch

from assess.toy_run import BOX, PIXEL_SIZE, toy_states
from cryoformer.checkpoint import save_tensors
from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.factory import model_tensors
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.imaging.ctf import CTFParameters, contrast_transfer
from cryoformer.imaging.fourier import fourier_to_images
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.run.run_folder import RunPaths
from explore.toy import small_model

SHIFT_ANGSTROM = 6.0


def latents(count: int) -> np.ndarray:
    """Evenly over the square from -1 to 1, row by row."""
    side = int(np.ceil(np.sqrt(count)))
    axis = np.linspace(-1.0, 1.0, side)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)[:count]


def model() -> ConformationModel:
    """The toy molecule as base, with an addition as strong as itself that depends on the latent."""
    made = small_model()
    made.static = torch.as_tensor(toy_states()[2])
    with torch.no_grad():
        points = made.points(BOX)
        ends = made.decode(points, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
        made.network.set_density_scale(float(0.5 / (ends[0] - ends[1]).abs().max()))
    return made


def write_run(folder: Path, count: int = 100, noise: float = 0.0) -> Path:
    """``folder/run``, trained as it were on ``folder/particles.star``; the images are those of the base."""
    particles, paths, made = folder / "particles.star", RunPaths(folder / "run"), model()
    write_images(particles, made, count, noise)
    mean = torch.as_tensor(latents(count), dtype=torch.float32)
    facts = {"settings": {"invert": "no"}, "particles": str(particles), "datadir": None}
    paths.root.mkdir(parents=True)
    paths.write_config(facts)
    paths.write_latents(mean, 0.01 * torch.eye(2).expand(count, 2, 2), torch.linspace(-1.0, 6.0, count))
    save_tensors(paths.checkpoint("model"), *model_tensors(made))
    save_tensors(
        paths.checkpoint("subspace"),
        {"latents": mean, "mean": made.static.clone(), "basis": made.static[None].clone()},
        {},
    )
    halves = torch.stack([made.static, made.static])
    save_tensors(paths.checkpoint("consensus"), {"volume": made.static, "halves": halves}, {})
    return paths.root


def write_images(path: Path, made: ConformationModel, count: int, noise: float) -> None:
    """A RELION stack of the base, white on dark, with CTF and shifts."""
    rng = np.random.default_rng(0)
    rotations, shifts = uniform_rotations(count, 0), rng.uniform(-SHIFT_ANGSTROM, SHIFT_ANGSTROM, (count, 2))
    one = torch.ones(count)
    defocus = torch.tensor(rng.uniform(8000, 16000, count), dtype=torch.float32)
    ctf = CTFParameters(defocus, defocus, 0 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one)
    poses = torch.tensor(rotations, dtype=torch.float32), torch.tensor(shifts, dtype=torch.float32)
    density = made.static.reshape(1, -1).expand(count, -1)
    clean = splat_project(density, grid_points(BOX, PIXEL_SIZE), *poses, BOX, PIXEL_SIZE)
    images = fourier_to_images(clean * contrast_transfer(ctf, BOX, PIXEL_SIZE), BOX).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path.with_suffix(".mrcs"), overwrite=True) as file:
        # Some noise always: a constant background cannot be normalised.
        file.set_data((images + rng.normal(0, max(noise, 1e-3), images.shape)).astype(np.float32))
        file.voxel_size = PIXEL_SIZE
    names = [f"{row + 1:06d}@particles.mrcs" for row in range(count)]
    write_particles_star(path, names, rotations, shifts, ctf, PIXEL_SIZE, BOX)

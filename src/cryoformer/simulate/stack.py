"""From settings to a folder with a particle stack and its ground truth (paper section 4, eq. 1).

Image i is CTF_i times the projection of the molecule at t_i, turned by R_i and shifted, plus white Gaussian noise of
one standard deviation for the whole stack, std(all pixels of the clean images after CTF) / sqrt(SNR). The clean
images wait in a temporary file until that number is known, so memory stays bounded whatever the size of the stack.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress

from cryoformer.errors import InputError
from cryoformer.files import write_mrc_volume
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.imaging.ctf import contrast_transfer
from cryoformer.imaging.fourier import fourier_to_images
from cryoformer.simulate.density import state_volume
from cryoformer.simulate.images import AtomProjector
from cryoformer.simulate.record import write_record
from cryoformer.simulate.sampling import ImageTruth, sample_truth, stream
from cryoformer.simulate.simulate_config import SimulateConfig
from cryoformer.simulate.specimen import Specimen, build_specimen
from cryoformer.simulate.structures import read_models, write_model

__all__ = ["SimulateConfig", "simulate"]

BATCH_NUMBERS = 500_000
"""Atoms or fine pixels of a batch of images: a few megabytes, which stay in cache; larger batches are half as fast."""
NOISE_IMAGES = 256
FLOAT16_MOST = 60000.0


def simulate(config: SimulateConfig, show_progress: bool = False) -> Path:
    """Simulate a stack and return its folder.

    The folder holds ``particles.mrcs`` (float16), ``particles.star`` (RELION 3.1), ``truth.npz``,
    ``gt/state_00.mrc`` ... (volumes of the true states), ``models/state_00.cif`` ... (their atoms) and
    ``simulation.json``. It appears whole or not at all, and the same settings give the same bytes.

    Raises:
        InputError: the folder is not empty, a file cannot be used, the models do not fit together, or the molecule
            does not fit into the box.
    """
    with _new_folder(config.out) as folder, _progress(show_progress) as progress:
        models = read_models(config.models, config.chain_names, config.hydrogens)
        specimen = build_specimen(config, models)
        truth = sample_truth(config, specimen.path.coordinates)
        centre = _centre(config, specimen, truth.state_coordinates)
        _write_states(config, folder, specimen, centre, truth, progress)
        clean_std = _write_clean(config, folder / "clean", specimen, centre, truth, progress)
        noise_std = clean_std / np.sqrt(config.snr)
        _write_stack(config, folder / "clean", folder / "particles.mrcs", noise_std, progress)
        (folder / "clean").unlink()
        _write_star(config, folder / "particles.star", truth)
        np.savez(
            folder / "truth.npz",
            **truth.arrays(specimen.moving()),
            snr=np.float64(config.snr),
            apix=np.float64(config.pixel_size_angstrom),
        )
        write_record(folder / "simulation.json", config, models, specimen, centre, clean_std, noise_std)
    return config.out


def _centre(
    config: SimulateConfig, specimen: Specimen, state_coordinates: Float[np.ndarray, "m c"]
) -> Float[np.ndarray, " 3"]:
    """Centroid of the whole molecule averaged over the states, the same for all compositions.

    Checks that every state fits into the box in any orientation.
    """
    model = specimen.model
    states = [specimen.path.positions(model.positions_angstrom, each) for each in state_coordinates]
    centre = np.mean([state.mean(axis=0) for state in states], axis=0)
    radius = max(float(np.linalg.norm(state - centre, axis=1).max()) for state in states)
    reach = config.max_shift_pixels * config.pixel_size_angstrom
    half = config.box / 2 * config.pixel_size_angstrom
    if radius + reach > half:
        needed = 2 * (radius + reach)
        raise InputError(
            f"{model.name}: the molecule reaches {radius:.0f} A from its centre and is shifted by up to {reach:.0f} A, "
            f"but the box of {config.box} pixels of {config.pixel_size_angstrom:g} A reaches {half:.0f} A; use pixels "
            f"of {needed / config.box:.2f} A or a box of {int(-(-needed // (2 * config.pixel_size_angstrom))) * 2} "
            "pixels, or more"
        )
    return centre


def _write_states(
    config: SimulateConfig,
    folder: Path,
    specimen: Specimen,
    centre: Float[np.ndarray, " 3"],
    truth: ImageTruth,
    progress: Progress,
) -> None:
    (folder / "gt").mkdir()
    (folder / "models").mkdir()
    count = len(truth.state_composition)
    digits = max(2, len(str(count - 1)))
    for number in progress.track(range(count), description="true states"):
        model, positions = specimen.state(truth.state_coordinates[number], int(truth.state_composition[number]))
        positions = positions - centre
        name = f"state_{number:0{digits}d}"
        write_model(folder / "models" / f"{name}.cif", model, positions)
        volume = state_volume(
            model.elements, positions, config.box, config.pixel_size_angstrom, config.b_factor_angstrom2
        )
        write_mrc_volume(folder / "gt" / f"{name}.mrc", volume, config.pixel_size_angstrom)
        with mrcfile.mmap(folder / "gt" / f"{name}.mrc", mode="r+") as mrc:
            _set_label(mrc)


def _write_clean(
    config: SimulateConfig,
    target: Path,
    specimen: Specimen,
    centre: Float[np.ndarray, " 3"],
    truth: ImageTruth,
    progress: Progress,
) -> float:
    """Write the clean images after CTF as bare float32; returns the standard deviation of all their pixels."""
    model = specimen.model
    projector = AtomProjector(
        model.elements,
        model.positions_angstrom,
        centre,
        specimen.path,
        config.box,
        config.pixel_size_angstrom,
        config.b_factor_angstrom2,
        None if specimen.present.all() else specimen.present,
    )
    ctf = truth.ctf(config)
    batch = max(1, min(64, BATCH_NUMBERS // max(len(model.elements), (4 * config.box) ** 2)))
    total = squares = 0.0
    with open(target, "wb") as file, torch.no_grad():
        for start in progress.track(range(0, config.images, batch), description="projections"):
            rows = slice(start, min(start + batch, config.images))
            coefficients = projector.project(
                truth.coordinates[rows], truth.rotations[rows], -truth.origins_angstrom[rows], truth.composition[rows]
            )
            coefficients = coefficients * contrast_transfer(ctf[rows], config.box, config.pixel_size_angstrom)
            images = fourier_to_images(coefficients, config.box).numpy()
            total += float(images.sum(dtype=np.float64))
            squares += float(np.square(images, dtype=np.float64).sum())
            images.tofile(file)
    count = config.images * config.box**2
    return float(np.sqrt(squares / count - (total / count) ** 2))


def _write_stack(config: SimulateConfig, clean: Path, target: Path, noise_std: float, progress: Progress) -> None:
    """Add the noise and write the float16 stack (MRC mode 12)."""
    shape = (config.images, config.box, config.box)
    images = np.memmap(clean, dtype=np.float32, mode="r", shape=shape)
    generator = stream(config.seed, "noise")
    low, high, total, squares = np.inf, -np.inf, 0.0, 0.0
    with mrcfile.new_mmap(target, shape=shape, mrc_mode=12, overwrite=True) as mrc:
        for start in progress.track(range(0, config.images, NOISE_IMAGES), description="noise"):
            noisy = np.array(images[start : start + NOISE_IMAGES])
            if noise_std > 0:
                noisy += np.float32(noise_std) * generator.standard_normal(noisy.shape, dtype=np.float32)
            low, high = min(low, float(noisy.min())), max(high, float(noisy.max()))
            if max(-low, high) > FLOAT16_MOST:
                raise InputError(
                    f"pixel values reach {max(-low, high):.3g}, more than float16 holds (65504); use larger pixels "
                    f"or an SNR above {config.snr:g}"
                )
            stored = noisy.astype(np.float16)
            total += float(stored.sum(dtype=np.float64))
            squares += float(np.square(stored, dtype=np.float64).sum())
            mrc.data[start : start + NOISE_IMAGES] = stored
        mrc.set_image_stack()
        mrc.voxel_size = config.pixel_size_angstrom
        mean = total / np.prod(shape)
        header = mrc.header
        header.dmin, header.dmax, header.dmean = np.float16(low), np.float16(high), mean
        header.rms = np.sqrt(max(squares / np.prod(shape) - mean**2, 0.0))
        _set_label(mrc)


def _set_label(mrc: Any) -> None:
    """The library's label holds the time of day, but the same settings shall give the same bytes."""
    mrc.header.nlabl, mrc.header.label = 1, b""
    mrc.header.label[0] = b"CryoFormer simulation"


def _write_star(config: SimulateConfig, target: Path, truth: ImageTruth) -> None:
    write_particles_star(
        target,
        [f"{number:06d}@particles.mrcs" for number in range(1, config.images + 1)],
        truth.rotations,
        -truth.origins_angstrom,
        truth.ctf(config),
        config.pixel_size_angstrom,
        config.box,
        half_set=np.arange(config.images) % 2 + 1,
    )


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that takes its name when the block has ended without an error."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target}: exists and is not an empty folder; give another --out, or remove it first")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{target}: cannot make this folder ({error.strerror}); give another --out") from error
    try:
        yield temporary
        # An empty folder of that name gives way.
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _progress(show: bool) -> Iterator[Progress]:
    with Progress(console=Console(stderr=True), transient=True, disable=not show) as progress:
        yield progress

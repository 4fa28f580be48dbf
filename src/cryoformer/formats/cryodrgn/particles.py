"""cryoDRGN's files as Particles, and back: images, ``poses.pkl`` and ``ctf.pkl``.

``poses.pkl`` holds R [n, 3, 3], alone or with the origins [n, 2], which are fractions of the box. ``ctf.pkl`` is a
table [n, 9]: box, pixel size, defocus U and V (A), angle (degrees), voltage (kV), Cs (mm), amplitude contrast, phase
shift (degrees). Its box is that of the images which the CTF was estimated for; images that were made smaller since
cover the same square, so their pixel size is that of the table times the ratio of the boxes.

The images are a stack, a ``.txt`` list of stacks, or a STAR or ``.cs`` file whose rows say which image is which.
"""

import logging
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Integer

from cryoformer.errors import InputError
from cryoformer.files import atomic_path
from cryoformer.formats.cryodrgn.pickled_arrays import load_pickled_arrays
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.particles.particles import Particles

logger = logging.getLogger(__name__)

CTF_COLUMNS = (
    "box",
    "pixel size",
    "defocus U",
    "defocus V",
    "defocus angle",
    "voltage",
    "Cs",
    "amplitude contrast",
    "phase shift",
)


def read_poses(path: Path) -> tuple[Float[np.ndarray, "n 3 3"], Float[np.ndarray, "n 2"]]:
    """R and the origins as fractions of the box, 0 where the file has none."""
    arrays = load_pickled_arrays(path)
    shapes = ", ".join(str(array.shape) for array in arrays)
    rotations = arrays[0]
    if len(arrays) > 2 or rotations.ndim != 3 or rotations.shape[1:] != (3, 3):
        raise InputError(
            f"{path}: holds arrays of shape {shapes}, expected rotations of shape (n, 3, 3), alone or with shifts of "
            "shape (n, 2); give cryoDRGN's poses.pkl"
        )
    count = len(rotations)
    fractions = arrays[1] if len(arrays) == 2 else np.zeros((count, 2))
    if fractions.shape != (count, 2):
        raise InputError(f"{path}: shifts of shape {fractions.shape}, expected ({count}, 2): one for each rotation")
    rotations, fractions = rotations.astype(np.float64), fractions.astype(np.float64)
    values = np.concatenate([rotations.reshape(count, 9), fractions], axis=1)
    _check_rows(path, np.isfinite(values).all(axis=1), "holds NaN or infinite values")
    gram = np.abs(np.swapaxes(rotations, 1, 2) @ rotations - np.eye(3)).max(axis=(1, 2), initial=0)
    is_rotation = (gram < 1e-3) & (np.linalg.det(rotations) > 0)
    _check_rows(path, is_rotation, "is no rotation matrix")
    return rotations, fractions


def read_ctf(path: Path) -> Float[np.ndarray, "n 9"]:
    arrays = load_pickled_arrays(path)
    if len(arrays) > 1 or arrays[0].ndim != 2 or arrays[0].shape[1] != len(CTF_COLUMNS):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise InputError(
            f"{path}: holds arrays of shape {shapes}, expected one of shape (n, 9); give cryoDRGN's ctf.pkl"
        )
    table = arrays[0].astype(np.float64)
    if len(table) and np.isnan(table[:, 8]).all():
        # cryoDRGN 4.3.1 writes this for STAR files without a phase-shift column.
        logger.warning("%s: the phase shift is NaN in every row; taken as 0 (no phase plate)", path)
        table[:, 8] = 0.0
    for number, name in enumerate(CTF_COLUMNS):
        _check_rows(path, np.isfinite(table[:, number]), f"has a {name} that is no finite number")
    for number in (0, 1, 5):
        _check_rows(path, table[:, number] > 0, f"has a {CTF_COLUMNS[number]} that is not above 0")
    _check_rows(path, table[:, 0] == np.floor(table[:, 0]), "has a box that is no whole number")
    _check_rows(path, (table[:, 7] >= 0) & (table[:, 7] <= 1), "has an amplitude contrast that is not from 0 to 1")
    return table


def _check_rows(path: Path, fine: Bool[np.ndarray, " n"], what: str) -> None:
    wrong = np.flatnonzero(~fine)
    if len(wrong):
        raise InputError(
            f"{path}: row {wrong[0] + 1} {what} ({len(wrong)} such rows); make the file again from the refinement"
        )


def ctf_parameters(table: Float[np.ndarray, "n 9"]) -> CTFParameters:
    columns = [*table[:, 2:].T, np.zeros(len(table))]
    return CTFParameters(*(torch.from_numpy(column.astype(np.float32)) for column in columns))


def optics_groups(table: Float[np.ndarray, "n 9"]) -> Integer[np.ndarray, " n"]:
    """Particles of one box, pixel size, voltage, Cs and amplitude contrast are one group."""
    return pd.DataFrame(table[:, [0, 1, 5, 6, 7]]).groupby(list(range(5))).ngroup().to_numpy() + 1


def write_cryodrgn(poses: Path, ctf: Path, particles: Particles) -> None:
    """Write ``poses.pkl`` (float64, which cryoDRGN takes too) and ``ctf.pkl`` (float32, as cryoDRGN writes it).

    Raises:
        InputError: the box is not known, or the images were multiplied by their CTF.
    """
    if not particles.boxes.all():
        raise InputError(
            f"{particles.source}: cryoDRGN's files need the size of the images, which it does not say; convert it "
            "where its image stacks are"
        )
    if particles.premultiplied.any():
        raise InputError(
            f"{particles.source}: the images were multiplied by their CTF, which cryoDRGN's files cannot say; extract "
            "them again without premultiplication"
        )
    parameters = particles.ctf
    if torch.any(parameters.b_factor_angstrom2):
        logger.warning("%s: its B-factors are left out: cryoDRGN's files have none", particles.source)
    side_angstrom = particles.boxes * particles.pixel_sizes_angstrom
    columns = [
        particles.boxes,
        particles.pixel_sizes_angstrom,
        parameters.defocus_u_angstrom,
        parameters.defocus_v_angstrom,
        parameters.defocus_angle_degrees,
        parameters.voltage_kv,
        parameters.spherical_aberration_mm,
        parameters.amplitude_contrast,
        parameters.phase_shift_degrees,
    ]
    table = np.stack([np.asarray(column) for column in columns], axis=1).astype(np.float32)
    origins = 0.0 - particles.shifts_angstrom / side_angstrom[:, None]
    for path, content in ((poses, (np.ascontiguousarray(particles.rotations), origins)), (ctf, table)):
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            pickle.dump(content, file, protocol=4)

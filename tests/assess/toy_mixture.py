"""A toy molecule with two parts that move independently or are absent: its truth folder and latents that know it."""

from pathlib import Path

import numpy as np

from assess.toy_run import PARTICLES, PIXEL_SIZE, blob
from cryoformer.files import write_mrc_volume

GRID = (-1.0, 0.0, 1.0)


def state_volume(first: float, second: float, whole: bool) -> np.ndarray:
    """A body that stays, a part above it that swings along x, and one below that swings along y or is not there."""
    still = blob((0, 0, 0), 2.5)
    return still + blob((4.0 * first, 0, 6), 1.5) + whole * blob((0, 4.0 * second, -6), 1.5)


def write_mixture(folder: Path, motions: bool = True, compositions: bool = True) -> dict[str, np.ndarray]:
    """A truth folder of states on a grid of two coordinates (or of none) in two compositions (or one).

    Returns the entries of its ``truth.npz``.
    """
    places = [(a, b) for a in GRID for b in GRID] if motions else [(0.0, 0.0)]
    wholes = (True, False) if compositions else (True,)
    states = [(a, b, whole) for whole in wholes for a, b in places]
    for index, state in enumerate(states):
        write_mrc_volume(folder / "gt" / f"state_{index:02d}.mrc", state_volume(*state), PIXEL_SIZE)
    state_coordinates = np.array([(a, b) for a, b, _ in states])
    state_composition = np.array([int(not whole) for _, _, whole in states])
    state = np.random.default_rng(0).integers(len(states), size=PARTICLES)
    coordinates = state_coordinates[state]
    entries = {"t": coordinates[:, 0], "state_t": state_coordinates[:, 0], "state": state}
    if motions:
        entries |= {"coordinates": coordinates, "state_coordinates": state_coordinates}
    if compositions:
        entries |= {"composition": state_composition[state], "state_composition": state_composition}
    np.savez(folder / "truth.npz", **entries)
    return entries

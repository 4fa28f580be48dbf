"""A small molecule with a part that moves, its truth folder, and a finished run that reconstructs it."""

from pathlib import Path
from typing import Any

import numpy as np

from cryoformer.decode.volume_source import VolumeSource
from cryoformer.files import write_mrc_volume
from cryoformer.run.run_folder import Run

BOX = 24
PIXEL_SIZE = 4.0
STATES = 5
PARTICLES = 120


def blob(centre: tuple[float, float, float], width: float, box: int = BOX) -> np.ndarray:
    """A Gaussian at (x, y, z) voxels from the box centre."""
    axis = np.arange(box) - box // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    square = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    return np.exp(-square / (2.0 * width**2)).astype(np.float32)


def toy_states(states: int = STATES, box: int = BOX) -> list[np.ndarray]:
    """A body that stays and a smaller part that swings along x above it (z)."""
    still = blob((0, 0, -3), 2.5, box) + 0.8 * blob((3, 2, -5), 1.5, box)
    return [still + blob((4.0 * s, 0, 4), 1.5, box) for s in np.linspace(-1.0, 1.0, states)]


def write_truth(folder: Path, with_states: bool = True, box: int = BOX) -> Path:
    """A truth folder of the toy molecule: PARTICLES images, states in turn."""
    states = toy_states(box=box)
    for index, volume in enumerate(states):
        write_mrc_volume(folder / "gt" / f"state_{index:02d}.mrc", volume, PIXEL_SIZE * BOX / box)
    state_t = (np.arange(STATES) + 0.5) / STATES
    state = np.arange(PARTICLES) % STATES
    t = state_t[state] + np.random.default_rng(0).uniform(-0.09, 0.09, PARTICLES)
    entries = {"t": t, "state_t": state_t} | ({"state": state} if with_states else {})
    np.savez(folder / "truth.npz", **entries)
    return folder


class ToyRun(Run):
    """A finished run without a network. ``blend`` 1 decodes the true state of a latent, 0 the mean of all states."""

    def __init__(self, path: Path, blend: float = 1.0, conditioning: float = 0.2) -> None:
        rng = np.random.default_rng(1)
        self.states = np.stack(toy_states())
        self.blend, self.path, self.box, self.pixel_size_angstrom = blend, path, BOX, PIXEL_SIZE
        state = np.arange(PARTICLES) % STATES
        latents = np.stack([state - 2.0, 0.1 * rng.standard_normal(PARTICLES)], axis=1)
        latents[:, 0] += 0.1 * rng.standard_normal(PARTICLES)
        VolumeSource.__init__(self, "cryoformer", latents, lambda points: map(self._state, points))
        self.parts = None
        # Every eighth particle is junk.
        self.outlier_score = np.where(np.arange(PARTICLES) % 8, rng.standard_normal(PARTICLES).clip(-3, 3), 9.0)
        self.latents_covariance = np.tile(0.01 * np.eye(2), (PARTICLES, 1, 1))
        self.subspace = VolumeSource(
            "subspace",
            latents.copy(),
            lambda points: (0.5 * self._state(point) + 0.5 * self.consensus for point in points),
        )
        self.consensus = self.states.mean(axis=0)
        self._metrics: list[dict[str, Any]] = [
            {"stage": "consensus", "epoch": 0, "step": 0, "loss": 1.0, "elapsed_s": 1.0},
            {"stage": "train", "epoch": 0, "step": 10, "loss": 0.9, "conditioning": conditioning, "elapsed_s": 9.0},
        ]
        self.config: dict[str, Any] = {
            "particles": "stack.star",
            "model": {"queries": 8},
            "command": ["cryoformer", "x"],
        }

    def _state(self, latent: np.ndarray) -> np.ndarray:
        index = int(np.clip(round(latent[0] + 2.0), 0, STATES - 1))
        return self.consensus + self.blend * (self.states[index] - self.consensus)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return self._metrics

"""What is true of every simulated image: when in the motion, seen from where, shifted how far, at which defocus."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from cryoformer.errors import InputError
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.simulate.defocus import draw_defocus, draw_defocus_from, read_defocus
from cryoformer.simulate.simulate_config import SimulateConfig

STREAMS = ("t", "rotations", "origins", "defocus", "noise", "composition")
MOST_STATES = 1000


@dataclass(frozen=True)
class ImageTruth:
    """Of n images of m states, with c coordinates of the motion (c = 1, all 0, where nothing moves).

    ``origins_angstrom`` has RELION's sign: the content sits at minus the origin.
    """

    coordinates: Float[np.ndarray, "n c"]
    composition: Int[np.ndarray, " n"]
    state: Int[np.ndarray, " n"]
    state_coordinates: Float[np.ndarray, "m c"]
    state_composition: Int[np.ndarray, " m"]
    rotations: Float[np.ndarray, "n 3 3"]
    origins_angstrom: Float[np.ndarray, "n 2"]
    defocus: Float[np.ndarray, "n 3"]

    @property
    def t(self) -> Float[np.ndarray, " n"]:
        """The first coordinate of every image."""
        return self.coordinates[:, 0]

    @property
    def state_t(self) -> Float[np.ndarray, " m"]:
        """The first coordinate of every state."""
        return self.state_coordinates[:, 0]

    def arrays(self, moving: Bool[np.ndarray, "k _"]) -> dict[str, Any]:
        """What goes into ``truth.npz``: coordinates and compositions only where there are several.

        ``moving`` says of every composition which coordinates it shows: a part that is missing does not move.
        """
        entries: dict[str, Any] = {
            "t": self.t,
            "state": self.state,
            "state_t": self.state_t,
            "rotations": self.rotations,
            "origins_angstrom": self.origins_angstrom,
            "defocus": self.defocus,
        }
        if self.coordinates.shape[1] > 1:
            entries |= {"coordinates": self.coordinates, "state_coordinates": self.state_coordinates}
        if self.state_composition.any():
            entries |= {"composition": self.composition, "state_composition": self.state_composition}
            entries |= {"composition_moves": moving} if moving.size else {}
        return entries

    def ctf(self, config: SimulateConfig) -> CTFParameters:
        """The images' CTF parameters, without phase plate and envelope."""
        count = len(self.t)
        u, v, angle = torch.from_numpy(self.defocus.astype(np.float32)).unbind(dim=1)
        return CTFParameters(
            defocus_u_angstrom=u,
            defocus_v_angstrom=v,
            defocus_angle_degrees=angle,
            voltage_kv=torch.full((count,), config.voltage_kv),
            spherical_aberration_mm=torch.full((count,), config.spherical_aberration_mm),
            amplitude_contrast=torch.full((count,), config.amplitude_contrast),
            phase_shift_degrees=torch.zeros(count),
            b_factor_angstrom2=torch.zeros(count),
        )


def stream(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one quantity: changing the noise, say, leaves poses and defoci as they are."""
    return np.random.default_rng([seed, STREAMS.index(name)])


def sample_truth(config: SimulateConfig, coordinates: int) -> ImageTruth:
    """Draw the truth of all images, with this many coordinates of the motion; without any, t = 0 throughout.

    States are ordered by composition, then by coordinates, the last one changing fastest.

    Raises:
        InputError: there would be more states than can be kept, or the defocus file cannot be used.
    """
    count = config.images
    grid = _state_grid(config, coordinates)
    times, cell = _draw_times(config, coordinates)
    if config.motion == "discrete":
        times = grid[cell]
    weights = np.array([each.weight for each in config.compositions] or [1.0])
    composition = stream(config.seed, "composition").choice(len(weights), count, p=weights / weights.sum())
    reach = config.max_shift_pixels * config.pixel_size_angstrom
    defocus = stream(config.seed, "defocus")
    if config.defocus_file is None:
        defoci = draw_defocus(defocus, count, config.defocus_mean_angstrom, config.defocus_spread_angstrom)
    else:
        defoci = draw_defocus_from(read_defocus(config.defocus_file), defocus, count)
    return ImageTruth(
        coordinates=times,
        composition=composition,
        state=composition * len(grid) + cell,
        state_coordinates=np.tile(grid, (len(weights), 1)),
        state_composition=np.repeat(np.arange(len(weights)), len(grid)),
        rotations=uniform_rotations(count, int(stream(config.seed, "rotations").integers(2**31))),
        origins_angstrom=stream(config.seed, "origins").uniform(-reach, reach, (count, 2)),
        defocus=defoci,
    )


def _state_grid(config: SimulateConfig, coordinates: int) -> Float[np.ndarray, "m c"]:
    """Coordinates of the states of one composition: the middles of equal cells."""
    if coordinates == 0:
        return np.zeros((1, 1))
    total = config.states**coordinates * max(len(config.compositions), 1)
    if total > MOST_STATES:
        raise InputError(
            f"{config.states} states for each of {coordinates} coordinates"
            + (f" and {len(config.compositions)} compositions" if config.compositions else "")
            + f" are {total} volumes; at most {MOST_STATES} are written: set states to less"
        )
    middles = (np.arange(config.states) + 0.5) / config.states
    return np.stack(np.meshgrid(*[middles] * coordinates, indexing="ij"), axis=-1).reshape(-1, coordinates)


def _draw_times(config: SimulateConfig, coordinates: int) -> tuple[Float[np.ndarray, "n c"], Int[np.ndarray, " n"]]:
    """Every image's coordinates, and the cell of the grid that they lie in."""
    if coordinates == 0:
        return np.zeros((config.images, 1)), np.zeros(config.images, dtype=np.int64)
    generator = stream(config.seed, "t")
    times = np.stack([generator.beta(*config.t_beta, config.images) for _ in range(coordinates)], axis=1)
    cell = np.minimum((times * config.states).astype(np.int64), config.states - 1)
    return times, np.ravel_multi_index(tuple(cell.T), (config.states,) * coordinates)

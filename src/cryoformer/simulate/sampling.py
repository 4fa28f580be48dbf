"""What is true of every simulated image: when in the motion, seen from where, shifted how far, at which defocus."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from cryoformer.imaging.ctf import CTFParameters
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.simulate.config import SimulateConfig
from cryoformer.simulate.defocus import draw_defocus, draw_defocus_from, read_defocus

STREAMS = ("t", "rotations", "origins", "defocus", "noise")


@dataclass(frozen=True)
class ImageTruth:
    """Of n images of m states. ``origins_angstrom`` has RELION's sign: the content sits at minus the origin."""

    t: Float[np.ndarray, " n"]
    state: Int[np.ndarray, " n"]
    state_t: Float[np.ndarray, " m"]
    rotations: Float[np.ndarray, "n 3 3"]
    origins_angstrom: Float[np.ndarray, "n 2"]
    defocus: Float[np.ndarray, "n 3"]

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


def sample_truth(config: SimulateConfig, moves: bool) -> ImageTruth:
    """Draw the truth of all images; a molecule that does not move has one state, at t = 0.

    Raises:
        InputError: the defocus file cannot be used.
    """
    count = config.images
    state_t = (np.arange(config.states) + 0.5) / config.states if moves else np.zeros(1)
    t = stream(config.seed, "t").beta(*config.t_beta, count) if moves else np.zeros(count)
    state = np.minimum((t * len(state_t)).astype(np.int64), len(state_t) - 1)
    if config.motion == "discrete":
        t = state_t[state]
    reach = config.max_shift_pixels * config.pixel_size_angstrom
    defocus = stream(config.seed, "defocus")
    if config.defocus_file is None:
        defoci = draw_defocus(defocus, count, config.defocus_mean_angstrom, config.defocus_spread_angstrom)
    else:
        defoci = draw_defocus_from(read_defocus(config.defocus_file), defocus, count)
    return ImageTruth(
        t=t,
        state=state,
        state_t=state_t,
        rotations=uniform_rotations(count, int(stream(config.seed, "rotations").integers(2**31))),
        origins_angstrom=stream(config.seed, "origins").uniform(-reach, reach, (count, 2)),
        defocus=defoci,
    )

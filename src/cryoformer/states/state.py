"""One state of a run at high resolution: its half maps, masks and resolution, and how much every particle counts."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from cryoformer.assess.masks import MOLECULE_FRACTION, density_threshold, soft_mask
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.fsc import masked_fsc, resolution
from cryoformer.linear.local_filter import local_wiener
from cryoformer.run.run_folder import Run
from cryoformer.states.half_maps import StateMaps, state_maps
from cryoformer.states.place import StatePlace
from cryoformer.states.sharpening import b_factor
from cryoformer.states.width import Width, widths

GROW_ANGSTROM, EDGE_ANGSTROM = 5.0, 10.0
THRESHOLD = 0.143


@dataclass(frozen=True)
class State:
    """A state: its maps, masks and curves, and how much each particle counts.

    Attributes:
        candidates: widths that were tried, narrowest first.
        filtered: both halves, filtered from place to place.
        decoded: what the run's decoder gives.
        masks: soft; "molecule", and "moving" where something moves.
        fsc: of the half maps by name of the mask, per shell, corrected for the mask.
        resolutions: in Angstrom at 0.143, by the same names.
        b_factor: of the filtered map, None where it says nothing of it.
        halves: half of every particle, 0 or 1.
    """

    place: StatePlace
    candidates: list[Width]
    maps: StateMaps
    filtered: Float[np.ndarray, "d d d"]
    decoded: Float[np.ndarray, "d d d"]
    masks: dict[str, Float[np.ndarray, "d d d"]]
    fsc: dict[str, Float[np.ndarray, " s"]]
    resolutions: dict[str, float]
    b_factor: float | None
    pixel_size_angstrom: float
    halves: Int[np.ndarray, " n"]

    @property
    def width(self) -> Width:
        """The one chosen."""
        return self.candidates[self.maps.chosen]


def make_state(
    run: Run, place: StatePlace, images: Images, progress: Callable[[float], None] = lambda _: None
) -> State:
    """The state of a run at a place, from the run's images."""
    pixel, window = run.pixel_size_angstrom, run.model.window.cpu().numpy()
    candidates = widths(*place.along(run.latents, run.latents_covariance))
    maps = state_maps(images, candidates, window, progress)
    first, second = torch.from_numpy(maps.halves)
    filtered = local_wiener(first, second, pixel).numpy()
    core = filtered > density_threshold(filtered, MOLECULE_FRACTION)
    masks = {"molecule": soft_mask(core, pixel, GROW_ANGSTROM, EDGE_ANGSTROM)}
    if float(window.max()) > 0.5:
        masks["moving"] = soft_mask(window > 0.5, pixel, 0.0, EDGE_ANGSTROM)
    fsc = {name: masked_fsc(maps.halves[0], maps.halves[1], mask) for name, mask in masks.items()}
    resolutions = {name: resolution(curve, run.box, pixel, THRESHOLD) for name, curve in fsc.items()}
    return State(
        place=place,
        candidates=candidates,
        maps=maps,
        filtered=filtered,
        decoded=next(iter(run.latent_volumes(place.latent[None].astype(np.float32)))),
        masks=masks,
        fsc=fsc,
        resolutions=resolutions,
        b_factor=b_factor(filtered * masks["molecule"], pixel, resolutions["molecule"]),
        pixel_size_angstrom=pixel,
        halves=images.halves.cpu().numpy(),
    )

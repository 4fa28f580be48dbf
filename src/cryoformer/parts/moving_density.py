"""The density of a conformation as a sum of what stays and of parts that move: decoded, and kept on disk."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.decode.density_model import ConformationModel, DecodedPoints
from cryoformer.imaging.grids import crop_volume
from cryoformer.parts.density import MovedParts, PartDensities
from cryoformer.parts.motion import LatentTerms, PartMotions, PartPlaces, moved

DECODED_AT_ONCE = 8


@dataclass(frozen=True)
class MovingDensity:
    """sigma(x; z) = b(x) + sum_m T_m(z) V_m (x) + r(x; z).

    Attributes:
        halves: unfiltered half maps of every part, in its own frame.
        half_map_fsc: their agreement within the part's mask, per shell 0 .. D / 2, corrected for the mask.
        masks: of the parts, each in its own frame.
        own_poses: turn and shift of every part in every particle of the run, from where its latent puts it; None
            where parts keep to their paths.
        kept: the network where no part is, r; its static density takes off what it adds on average. None for nowhere.
    """

    densities: PartDensities
    motions: PartMotions
    masks: Float[Tensor, "m d d d"]
    halves: Float[Tensor, "m 2 d d d"]
    half_map_fsc: Float[Tensor, "m s"]
    own_poses: Float[Tensor, "m n 6"] | None = None
    kept: ConformationModel | None = None

    def __len__(self) -> int:
        return len(self.motions)

    def volumes(self, latents: Float[Tensor, "n k"]) -> Iterator[Float[np.ndarray, "d d d"]]:
        """Densities [z, y, x] at points of the latent space."""
        moved = self._moved.all(self.motions.at(latents))
        for still, volume in zip(self._unmoved(latents), moved, strict=True):
            yield still + volume

    def _unmoved(self, latents: Float[Tensor, "n k"]) -> Iterator[Float[np.ndarray, "d d d"]]:
        """What the parts are added to."""
        still = self.densities.still.cpu()
        if self.kept is None:
            yield from repeat(still.numpy(), len(latents))
            return
        still = still + crop_volume(self.kept.static, still.shape[-1], mean=True).cpu()
        for some in latents.split(DECODED_AT_ONCE):
            with torch.no_grad():
                decoded = self.kept.decode(self._points, some.to(self.kept.static.device))
            for added in self.kept.added(self._points, decoded):
                yield (still + added.cpu()).numpy()

    def places(self, latents: Float[Tensor, "n k"]) -> PartPlaces:
        """Where the parts are in the particles of the run, whose latents these are."""
        places = self.motions.at(latents)
        return places if self.own_poses is None else moved(places, self.own_poses)

    @cached_property
    def _points(self) -> DecodedPoints:
        assert self.kept is not None
        return self.kept.points(self.densities.box)

    @cached_property
    def _moved(self) -> MovedParts:
        return MovedParts(self.densities.parts, self.densities.pixel_size_angstrom)

    def at_box(self, box: int) -> "MovingDensity":
        """The same at a smaller box, its voxels the mean (not the sum) of the finer ones."""
        full = self.densities
        if box == full.box:
            return self
        ratio = (box / full.box) ** 3
        parts = torch.stack([crop_volume(part, box) * ratio for part in full.parts])
        pixel_size = full.pixel_size_angstrom * full.box / box
        return replace(self, densities=PartDensities(crop_volume(full.still, box) * ratio, parts, pixel_size))

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """For a checkpoint."""
        named = {f"terms.{name}": value for name, value in vars(self.motions.terms).items()}
        named |= {"pivots": self.motions.pivots, "coefficients": self.motions.coefficients}
        named |= {"still": self.densities.still, "parts": self.densities.parts, "masks": self.masks}
        named |= {"halves": self.halves, "half_map_fsc": self.half_map_fsc}
        if self.own_poses is not None:
            named["own_poses"] = self.own_poses
        if self.kept is not None:
            named |= {"kept_window": self.kept.window, "kept_static": self.kept.static}
        return named, {"pixel_size_angstrom": self.densities.pixel_size_angstrom}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor], facts: dict[str, Any], network: ConformationModel) -> "MovingDensity":
        """The inverse of :meth:`tensors`; ``network``: the run's, of which some may be kept."""
        kept = None
        if "kept_window" in tensors:
            kept = network.within(tensors["kept_window"], tensors["kept_static"])
        terms = LatentTerms(**{name: tensors[f"terms.{name}"] for name in ("mean", "whitening", "reference", "scale")})
        return MovingDensity(
            densities=PartDensities(tensors["still"], tensors["parts"], float(facts["pixel_size_angstrom"])),
            motions=PartMotions(terms, tensors["pivots"], tensors["coefficients"]),
            masks=tensors["masks"],
            halves=tensors["halves"],
            half_map_fsc=tensors["half_map_fsc"],
            own_poses=tensors.get("own_poses"),
            kept=kept,
        )

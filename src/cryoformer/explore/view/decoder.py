"""Densities fast enough to follow the cursor."""

from collections import OrderedDict
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from cryoformer.decode.density_model import ConformationModel, DecodedPoints
from cryoformer.imaging.grids import crop_volume
from cryoformer.parts.moving_density import MovingDensity

LIVE_BOX = 96
"""Boxes up to this one are decoded in full while the cursor moves ..."""
COARSE_BOX = 80
"""... and larger ones are Fourier-cropped to this one until it rests."""
KEPT = 6

Detail = Literal["live", "full"]


class StateDecoder:
    """Density at a latent, at full detail or coarse enough to be live; the points are prepared once.

    Voxels of the coarse box hold the mean of the finer ones (not their sum), so that a threshold means the same.
    """

    def __init__(self, model: ConformationModel, parts: MovingDensity | None = None) -> None:
        self.model = model
        self._parts: dict[int, MovingDensity] | None = None if parts is None else {model.box: parts}
        self.boxes = {"full": model.box, "live": model.box if model.box <= LIVE_BOX else COARSE_BOX}
        self._prepared: dict[int, tuple[DecodedPoints, torch.Tensor]] = {}
        self._kept: OrderedDict[tuple[int, bytes], np.ndarray] = OrderedDict()

    def density(self, latent: Float[np.ndarray, " k"], detail: Detail = "full") -> Float[np.ndarray, "d d d"]:
        """Density [z, y, x]; the last few are kept, because slices and a new threshold want them again."""
        box = self.boxes[detail]
        key = (box, latent.tobytes())
        if key not in self._kept:
            self._kept[key] = self._decode(latent, box)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _decode(self, latent: np.ndarray, box: int) -> np.ndarray:
        if self._parts is not None:
            if box not in self._parts:
                self._parts[box] = self._parts[self.model.box].at_box(box)
            return next(self._parts[box].volumes(_row(latent)))
        points, static = self._points(box)
        with torch.inference_mode():
            decoded = self.model.decode(points, _row(latent))
            volume: np.ndarray = (static + self.model.added(points, decoded)[0]).cpu().numpy()
        return volume

    def _points(self, box: int) -> tuple[DecodedPoints, torch.Tensor]:
        if box not in self._prepared:
            with torch.inference_mode():
                static = crop_volume(self.model.static, box, mean=True)
                self._prepared[box] = self.model.points(box), static
        return self._prepared[box]


def _row(latent: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(latent, dtype=np.float32)[None])

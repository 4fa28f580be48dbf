"""Maps that colour the surface: flexibility, uncertainty, local resolution and attention, where there are any."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cryoformer.errors import InputError
from cryoformer.files import read_mrc_volume

FILES = {
    "flexibility": ("flexibility.mrc", "Flexibility", "SD of the density"),
    "uncertainty": ("uncertainty.mrc", "Uncertainty", "SE of the density"),
    "resolution": ("local_resolution.mrc", "Local resolution", "Å"),
}
"""What ``analyze`` writes: name, title and what the numbers are."""
ATTENTION = re.compile(r"(part|query)_(\d+)")


@dataclass(frozen=True)
class Colouring:
    """A map [z, y, x] on the run's own grid and the range of values that the colours span."""

    volume: Float[np.ndarray, "d d d"]
    low: float
    high: float
    title: str
    unit: str


class Colourings:
    """The colourings of a run, read or computed when first asked for."""

    def __init__(
        self, folder: Path, box: int, inside: Callable[[], np.ndarray], flexibility: Callable[[], np.ndarray]
    ) -> None:
        """``inside`` gives the voxels of the molecule, ``flexibility`` the map where no file holds it."""
        self.box, self._inside, self._flexibility = box, inside, flexibility
        self._sources = {name: (folder / file, title, unit) for name, (file, title, unit) in FILES.items()}
        self._sources = {n: s for n, s in self._sources.items() if s[0].is_file() or n == "flexibility"}
        for path in sorted((folder / "attention").glob("*.mrc")):
            match = ATTENTION.fullmatch(path.stem)
            if match:
                kind, number = match[1], int(match[2])
                self._sources[f"{kind}{number}"] = (path, f"Attention, {kind} {number}", "attention")
        self._ready: dict[str, Colouring] = {}

    @property
    def titles(self) -> dict[str, str]:
        """Titles by name."""
        return {name: title for name, (_, title, _) in self._sources.items()}

    def __getitem__(self, name: str) -> Colouring:
        """Raises InputError for a name that is not there, or a map of another box."""
        if name not in self._sources:
            raise InputError(f"there is no colouring '{name}'; there are {', '.join(self._sources)}")
        if name not in self._ready:
            self._ready[name] = self._make(name)
        return self._ready[name]

    def _make(self, name: str) -> Colouring:
        path, title, unit = self._sources[name]
        volume = read_mrc_volume(path)[0] if path.is_file() else self._flexibility()
        if volume.shape != (self.box,) * 3:
            raise InputError(f"{path}: a map of {volume.shape} voxels, but the run has {self.box}^3; analyse it again")
        inside = volume[self._inside()]
        # Robust, or one voxel would take all the colours; magnitudes begin at zero, resolutions do not.
        low, high = (float(value) for value in np.percentile(inside if inside.size else volume, [1.0, 99.0]))
        low = low if name == "resolution" else 0.0
        return Colouring(volume, low, max(high, low + 1e-12), title, unit)

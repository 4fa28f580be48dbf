"""What exploring needs of a finished run beyond what its assessment does."""

from typing import Protocol, runtime_checkable

import numpy as np

from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.volume_source import FinishedRun


@runtime_checkable
class ExploredRun(FinishedRun, Protocol):
    """A run (``cryoformer.run.run_folder.open_run``) with its network and its half maps."""

    @property
    def model(self) -> ConformationModel:
        """The network, the base map and the window between them."""

    @property
    def half_maps(self) -> np.ndarray:
        """Two independent consensus maps [2, z, y, x], unfiltered."""

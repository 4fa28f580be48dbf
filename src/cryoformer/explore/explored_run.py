"""What exploring needs of a finished run beyond what its assessment does."""

from typing import Protocol, runtime_checkable

import numpy as np

from cryoformer.assess.sources import FinishedRun
from cryoformer.reconstruct.density_model import ConformationModel


@runtime_checkable
class ExploredRun(FinishedRun, Protocol):
    """A run (``cryoformer.reconstruct.run_directory.open_run``) with its network and its half maps."""

    @property
    def model(self) -> ConformationModel:
        """The network, the base map and the window between them."""

    @property
    def half_maps(self) -> np.ndarray:
        """Two independent consensus maps [2, z, y, x], unfiltered."""

"""Half-planes of all images of a data set at one coarse box, in one file, as float16.

Rows are read from the file at their offset, not through a memory map, so the process holds only what it asked for.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Complex, Int
from torch import Tensor

from cryoformer.errors import InputError
from cryoformer.files import atomic_path


@dataclass(frozen=True)
class HalfPlaneFile:
    """``count`` half-planes [D, D // 2 + 1], each coefficient as two float16 in units of D: the noise is of order 1."""

    path: Path
    count: int
    box: int

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.box, self.box // 2 + 1, 2

    @property
    def _bytes(self) -> int:
        return 2 * int(np.prod(self._shape))

    def write(self, batches: Iterable[Complex[Tensor, "b d h"]]) -> None:
        """All half-planes, in order.

        Raises:
            InputError: the disk is full or cannot be written.
        """
        try:
            with atomic_path(self.path) as temporary, temporary.open("wb") as file:
                for batch in batches:
                    torch.view_as_real(batch / self.box).to(torch.float16).numpy().tofile(file)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error}); it needs {self.count * self._bytes / 2**30:.1f} GiB: free "
                "some space, or give a folder on another disk as --out"
            ) from error

    def read(self, rows: Int[Tensor, " b"]) -> Complex[Tensor, "b d h"]:
        """Half-planes of these rows."""
        result = np.empty((len(rows), *self._shape), dtype=np.float16)
        with self.path.open("rb", buffering=0) as file:
            for row, target in zip(rows.tolist(), result, strict=True):
                os.preadv(file.fileno(), [target.reshape(-1).view(np.uint8).data], row * self._bytes)
        return torch.view_as_complex(torch.from_numpy(result).float()) * self.box

"""Which of all images a process holds: one stretch of rows after the other, in the order of the processes."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cryoformer.communication import ALONE, Processes
from cryoformer.errors import InputError


@dataclass(frozen=True)
class Shard:
    """Rows ``start`` to ``stop`` - 1 of ``total`` images, and the processes that hold the others.

    Attributes:
        repeats: which image each of all rows shows, from 0, where some are listed more than once; None: each its own.
    """

    start: int
    stop: int
    total: int
    processes: Processes = ALONE
    repeats: Int[Tensor, " t"] | None = field(default=None, compare=False)

    @staticmethod
    def whole(total: int) -> "Shard":
        """All images in this process."""
        return Shard(0, total, total)

    @staticmethod
    def dealt(total: int, processes: Processes) -> "Shard":
        """This process's share: as many as any other's, or one more.

        Raises:
            InputError: fewer images than processes.
        """
        if total < processes.size:
            raise InputError(f"{total} images for {processes.size} processes: start fewer (--devices {total})")
        start, stop = (total * rank // processes.size for rank in (processes.rank, processes.rank + 1))
        return Shard(start, stop, total, processes)

    def with_repeats(self, images: Int[Tensor, " t"]) -> "Shard":
        """The same, with the image that each of all rows shows."""
        repeated = int(images.max()) + 1 < len(images) if len(images) else False
        return replace(self, repeats=images if repeated else None)

    @property
    def images(self) -> Int[Tensor, " t"]:
        """Which image each of all rows shows, from 0. Whatever divides the data divides images, not rows."""
        return torch.arange(self.total) if self.repeats is None else self.repeats

    def holds(self, rows: Int[Tensor, " m"]) -> Bool[Tensor, " m"]:
        """Which of these rows of all are in this process."""
        return (rows >= self.start) & (rows < self.stop)

    def here(self, rows: Int[Tensor, " m"]) -> Int[Tensor, " l"]:
        """Those of these rows of all that are here, in the same order, counted from the first one here."""
        return rows if self.stop - self.start == self.total else rows[self.holds(rows)] - self.start

    def drawn(self, rows: Int[Tensor, " m"]) -> "Shard":
        """The shard of these rows alone, which ascend."""
        bounds = torch.tensor([self.start, self.stop], device=rows.device)
        start, stop = torch.searchsorted(rows, bounds).tolist()
        repeats = None if self.repeats is None else self.repeats[rows.cpu()].unique(return_inverse=True)[1]
        return Shard(start, stop, len(rows), self.processes, repeats)

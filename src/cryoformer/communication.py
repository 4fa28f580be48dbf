"""Several processes at one run: what they add up, hand round and decide together.

``torch.distributed`` does the work, started by torchrun (:mod:`cryoformer.run.processes`). With one process nothing
here does anything, so whoever sums over images need not ask how many processes share them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor

from cryoformer.errors import InputError, SharedInputError

# Numbers that are summed at a time: a message of 256 MiB.
MOST_NUMBERS = 2**26

What = TypeVar("What")


@dataclass(frozen=True)
class Processes:
    """This process, number ``rank`` of ``size``. Everything but ``first`` must be called by all, in the same order."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def running() -> "Processes":
        """Those that torch.distributed joins at the moment."""
        return Processes(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def add(self, values: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Sum over processes, in place; every process gets the same numbers."""
        if self.size > 1:
            for part in _plain(values).view(-1).split(MOST_NUMBERS):
                dist.all_reduce(part)
        return values

    def add_numbers(self, *numbers: float | int) -> tuple[float, ...]:
        """Sums of a few numbers."""
        if self.size == 1:
            return tuple(float(number) for number in numbers)
        return tuple(self.add(torch.tensor(numbers, dtype=torch.float64, device=_device())).tolist())

    def mean(self, rows: Float[Tensor, "n ..."]) -> Float[Tensor, "..."]:
        """Mean over the rows of all processes."""
        if self.size == 1:
            return rows.mean(dim=0)
        (count,) = self.add_numbers(len(rows))
        return self.add(rows.sum(dim=0)) / count

    def gather(self, rows: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "m ..."]:
        """The rows of the first process, then those of the second, and so on; all processes get them."""
        if self.size == 1:
            return rows
        counts: list[Any] = [None] * self.size
        dist.all_gather_object(counts, len(rows))
        parts = [rows.new_empty(count, *rows.shape[1:]) for count in counts]
        parts[self.rank] = rows.contiguous()
        for number, part in enumerate(parts):
            dist.broadcast(_plain(part), src=number)
        return torch.cat(parts)

    def gather_shares(self, rows: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "m ..."]:
        """The same for as many rows in every process, which is faster."""
        if self.size == 1:
            return rows
        found = rows.new_empty(self.size * len(rows), *rows.shape[1:])
        dist.all_gather(list(found.chunk(self.size)), rows.contiguous())
        return found

    def of_first(self, value: What) -> What:
        """What the first process gives, which may be anything that can be pickled."""
        if self.size == 1:
            return value
        given = [value]
        dist.broadcast_object_list(given, src=0)
        return given[0]

    def tensors_of_first(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The first process's tensors; those of the others have the same names, but perhaps other shapes."""
        if self.size == 1:
            return tensors
        shapes = self.of_first({name: tensor.shape for name, tensor in tensors.items()})
        found = {}
        for name, shape in shapes.items():
            found[name] = tensors[name].contiguous() if self.first else tensors[name].new_empty(shape)
            dist.broadcast(_plain(found[name]), src=0)
        return found

    def agree(self, work: Callable[[], What]) -> What:
        """What ``work`` gives in this process.

        Raises:
            InputError: one of the processes has raised it; then all do.
        """
        if self.size == 1:
            return work()
        found, error = None, None
        try:
            found = work()
        except InputError as raised:
            error = str(raised)
        errors: list[Any] = [None] * self.size
        dist.all_gather_object(errors, error)
        said = [each for each in errors if each is not None]
        if said:
            raise SharedInputError(said[0], self.first, dist.barrier)
        return found  # type: ignore[return-value]

    def on_first(self, work: Callable[[], What]) -> What:
        """What ``work`` gives in the first process, which alone does it.

        Raises:
            InputError: it has raised it; then all do.
        """
        return self.of_first(self.agree(lambda: work() if self.first else None))  # type: ignore[return-value]


ALONE = Processes()


def is_loss(error: BaseException) -> bool:
    """Whether an error says that another process has gone."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and dist.is_initialized() and ("gloo" in text or "nccl" in text)


def _plain(values: Tensor) -> Tensor:
    """The same memory as real numbers."""
    return torch.view_as_real(values) if values.is_complex() else values


def _device() -> torch.device:
    """Where few numbers are put to be sent: with NCCL alone they must be on a GPU."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")

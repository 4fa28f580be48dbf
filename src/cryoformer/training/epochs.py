"""Which images a training step takes, and who does what of it where processes share the images.

The batch is the same whatever the number of processes. Every process predicts the images that it holds. The densities
that they share are dealt out: each process decodes its share of a batch's states, and all get all densities, which
costs far less to send than to decode. So no image is ever sent.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cryoformer.communication import Processes
from cryoformer.images.shard import Shard
from cryoformer.training.encoder_inputs import EncoderInputs


@dataclass(frozen=True)
class StepImages:
    """The images of a step.

    Attributes:
        rows: of all images.
        state: number of the state that each of them shares, from 0, ascending.
        place: places among them of the images that this process has; one that does not count, where it has none.
        counts: whether they do.
        here: rows of these images in this process.
    """

    rows: Int[Tensor, " b"]
    state: Int[Tensor, " b"]
    place: Int[Tensor, " l"]
    counts: bool
    here: Int[Tensor, " l"]


class Epochs:
    """Rows of every step of every epoch of a stage, by seed, stage and epoch alone."""

    def __init__(
        self, rows: Int[Tensor, " t"], batch: int, conditions: EncoderInputs, images_per_state: int, shard: Shard
    ) -> None:
        self.rows, self.batch, self.shard = rows, batch, shard
        self.conditions, self.images_per_state = conditions, images_per_state
        self._plans: dict[int, list[StepImages]] = {}

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-len(self.rows) // self.batch)

    def rows_here(self, seed: int, stage: int, step: int) -> Iterator[Int[Tensor, " l"]]:
        """The rows in this process of every step from ``step`` on, without end."""
        first, place = divmod(step, self.steps)
        for epoch in itertools.count(first):
            for images in self.plan(seed, stage, epoch)[place:]:
                yield images.here
            place = 0

    def plan(self, seed: int, stage: int, epoch: int) -> list[StepImages]:
        """All steps of an epoch."""
        if epoch not in self._plans:
            generator = torch.Generator().manual_seed(hash((seed, stage, epoch)) % 2**63)
            state = self.conditions.shared_states(self.rows, self.images_per_state, generator)
            # Shared states in random order, the images of each side by side.
            state = torch.randperm(int(state.max()) + 1, generator=generator).to(state.device)[state]
            order = state.argsort(stable=True)
            steps = zip(self.rows[order].split(self.batch), state[order].split(self.batch), strict=True)
            # Reading ahead asks for the next epoch before this one is done.
            self._plans = {e: plan for e, plan in self._plans.items() if e >= epoch - 1}
            self._plans[epoch] = [self._step(rows, state) for rows, state in steps]
        return self._plans[epoch]

    def _step(self, rows: Tensor, state: Tensor) -> StepImages:
        place = self.shard.holds(rows).nonzero()[:, 0]
        counts = len(place) > 0
        here = rows[place] - self.shard.start if counts else rows.new_zeros(1)
        state = state.unique_consecutive(return_inverse=True)[1]
        return StepImages(rows, state, place if counts else rows.new_zeros(1), counts, here)


class DealtNetwork:
    """A network whose inputs all processes know: each decodes its share, and all get all densities."""

    def __init__(self, network: nn.Module, processes: Processes) -> None:
        self.network, self.processes = network, processes

    def __call__(self, inputs: Float[Tensor, "s ..."], rotations: Float[Tensor, "l 3 3"]) -> Float[Tensor, "s p"]:
        """Densities of all inputs."""
        count, processes = len(inputs), self.processes
        share = -(-count // processes.size)
        mine = torch.arange(share, device=inputs.device) + processes.rank * share
        # The last ones of the last process are decoded for nothing: all shares must be of one size.
        density: Tensor = _Gathered.apply(self.network(inputs[mine.clamp(max=count - 1)], rotations), processes)
        return density[:count]


class _Gathered(torch.autograd.Function):
    """The rows of all processes; the gradient of a row is the sum of what all processes make of it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.gather_shares(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed = ctx.processes.add(gradients[0].contiguous().clone())
        return summed.chunk(ctx.processes.size)[ctx.processes.rank], None

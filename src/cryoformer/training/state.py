"""Where training stands: all that a checkpoint holds, and a run that was stopped goes on from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.checkpoint import flatten_optimizer, load_tensors, save_tensors, unflatten_optimizer
from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.factory import model_from_tensors, model_tensors

PLACE = ("stage", "step", "seconds", "held_out_gain", "cut_short")


@dataclass
class TrainingState:
    """The model, the latents of all images as far as they are known, and the place in the schedule.

    Attributes:
        stage, step, seconds: how far the stage under way is, and the time spent on it.
        held_out_gain: log likelihood per held-out image over the static density, of its last full epoch.
        cut_short: what a time limit took away so far, in words.
        goes_on: the checkpoint stays, because the last stage was cut short: ``--resume`` goes on with it.
        optimizer, average: state dicts of its optimiser and of the averaged parameters; None between stages.
    """

    model: ConformationModel
    latents: Float[Tensor, "n k"] | None = None
    covariance: Float[Tensor, "n k k"] | None = None
    stage: int = 0
    step: int = 0
    seconds: float = 0.0
    held_out_gain: float | None = None
    cut_short: list[str] = field(default_factory=list)
    goes_on: bool = False
    optimizer: dict[str, Any] | None = None
    average: dict[str, Tensor] | None = None

    def begin(self, stage: int) -> None:
        """The start of a stage."""
        self.stage, self.step, self.seconds, self.held_out_gain = stage, 0, 0.0, None
        self.optimizer = self.average = None

    def save(self, path: Path, elapsed: float) -> None:
        """As a checkpoint, with the seconds that the whole run has taken."""
        tensors, facts = model_tensors(self.model)
        facts |= {name: getattr(self, name) for name in PLACE} | {"elapsed": elapsed, "optimizer": None}
        if self.optimizer is not None:
            more, facts["optimizer"] = flatten_optimizer(self.optimizer)
            tensors |= more | {f"average.{name}": value for name, value in (self.average or {}).items()}
        for name in ("latents", "covariance"):
            if (value := getattr(self, name)) is not None:
                tensors[name] = value
        save_tensors(path, tensors, facts)

    @staticmethod
    def load(path: Path, device: torch.device) -> "TrainingState":
        """The inverse of :meth:`save`."""
        tensors, facts = load_tensors(path, device)
        state = TrainingState(
            model_from_tensors(tensors, facts),
            tensors.get("latents"),
            tensors.get("covariance"),
            **{name: facts[name] for name in PLACE if name in facts},
        )
        if facts["optimizer"]:
            state.optimizer = unflatten_optimizer(tensors, facts["optimizer"])
            state.average = {k.removeprefix("average."): x for k, x in tensors.items() if k.startswith("average.")}
        return state

"""A stage of the training: learning rates, the running average of the parameters, and what a step counts."""

import pytest
import torch
from lightning_fabric import Fabric

from cryoformer.training.encoder_inputs import KnownLatents
from cryoformer.training.state import TrainingState
from cryoformer.training.train_config import Stage, TrainConfig
from cryoformer.training.trainer import StageTrainer
from decode.test_density_model import small_model

RATE = 1e-3


@pytest.fixture
def trainer(moving, monkeypatch: pytest.MonkeyPatch) -> StageTrainer:
    monkeypatch.setattr("cryoformer.training.trainer.FALL", 1e9)  # no stage ends early
    images = moving.images.take(torch.arange(100)).crop(16)
    latents = torch.tensor(moving.t[:100], dtype=torch.float32)[:, None].expand(-1, 2)
    config = TrainConfig(learning_rate=RATE, table_learning_rate=RATE)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return StageTrainer(
        small_model(), images, KnownLatents(latents), Stage(box=16, epochs=20, batch=32), config, fabric
    )


def parameters(trainer: StageTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.network.parameters()])


def steps(trainer: StageTrainer) -> list[float]:
    """The largest change of any parameter at every step. Adam's first is the learning rate itself."""
    changes, last = [], [parameters(trainer)]

    def report(_: object) -> None:
        now = parameters(trainer)
        changes.append(float((now - last[0]).abs().max()))
        last[0] = now

    trainer.run(TrainingState(trainer.model), report, lambda: None)
    return changes


def test_steps_grow_from_small_ones_and_end_small(trainer: StageTrainer) -> None:
    changes = steps(trainer)
    assert len(changes) == trainer.steps == 60
    assert 0 < changes[0] < RATE / 20
    assert changes[0] < changes[5] < changes[20]
    assert max(changes[-3:]) < 0.4 * max(changes)


def test_finished_network_is_the_average_of_what_it_went_through(trainer: StageTrainer) -> None:
    """Parameters that swing about a value end at it, and where they began is forgotten."""
    network = trainer.model.network
    for step in range(400):
        with torch.no_grad():
            for p in network.parameters():
                p.fill_(3.0 + (-1) ** step)
        trainer._average(step)
    trainer.finish()
    assert float((parameters(trainer) - 3.0).abs().max()) < 0.05


def test_last_hundred_steps_count(trainer: StageTrainer) -> None:
    network = trainer.model.network
    for step in range(600):
        with torch.no_grad():
            for p in network.parameters():
                p.fill_(1.0 if step < 500 else 2.0)
        trainer._average(step)
    trainer.finish()
    assert 1.5 < float(parameters(trainer).mean()) < 1.9

"""Parts as a stage of a run: the choice by held-out images, and runs that have parts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoformer.checkpoint import save_tensors
from cryoformer.errors import InputError
from cryoformer.formats.load import load_particles
from cryoformer.images.fourier_images import Images
from cryoformer.parts import stage
from cryoformer.parts.density import PartDensities
from cryoformer.parts.motion import LatentTerms, PartMotions
from cryoformer.parts.moving_density import MovingDensity
from cryoformer.parts.posterior import StatePosterior
from cryoformer.parts.stage import PartStage
from cryoformer.parts.start import PartStart, start_parts
from cryoformer.progress import RunLog
from cryoformer.run.run_folder import open_run
from cryoformer.run.subtract import subtract
from toy_images import BOX, PIXEL, Simulated, blob


def moving_density(latents: np.ndarray) -> MovingDensity:
    """A blob that goes 10 A along x for a unit of the first of the terms."""
    terms = LatentTerms.of_population(torch.from_numpy(latents))
    coefficients = torch.zeros(1, len(terms.scale), 6)
    coefficients[0, 0, 3] = 10.0
    part = blob((0.0, 0.0, 0.0), 8.0)[None]
    return MovingDensity(
        PartDensities(blob((0.0, -20.0, 0.0), 12.0), part, PIXEL),
        PartMotions(terms, torch.tensor([[0.0, 30.0, 0.0]]), coefficients),
        torch.ones(1, BOX, BOX, BOX),
        torch.stack([part, part], dim=1),
        torch.ones(1, BOX // 2),
    )


def test_a_run_says_what_it_found_and_decodes_the_sum(
    small_run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stage, "LAST_ROUNDS", 1)
    monkeypatch.setattr(stage, "start_parts", partial(start_parts, steps=20))
    monkeypatch.setattr(stage, "STATES", 8)
    monkeypatch.setattr(stage, "LEAST_EXPLAINED", -100.0)
    small_run(tmp_path / "run", parts=1, latent_states=8, stages=[{"box": 24, "epochs": 1, "batch": 64}])
    run = open_run(tmp_path / "run")
    (said,) = [line for line in run.metrics if line["stage"] == "parts"]
    assert (run.parts is not None) == (said["held_out_gain"] > 0)

    density = moving_density(run.latents)
    save_tensors(tmp_path / "run" / "checkpoints" / "parts.safetensors", *density.tensors())
    run = open_run(tmp_path / "run")
    volume = next(run.particle_volumes([3]))
    (shift,) = density.motions.vectors(torch.from_numpy(run.latents[[3]]))[0, :, 3].tolist()
    wanted = blob((0.0, -20.0, 0.0), 12.0) + blob((shift, 30.0, 0.0), 8.0)
    assert np.abs(volume - wanted.numpy()).max() < 0.03

    subtract(tmp_path / "run", 1, tmp_path / "part")
    assert len(load_particles(tmp_path / "part" / "particles.star")) == len(run.latents)
    with pytest.raises(InputError, match="parts 1 to 1"):
        subtract(tmp_path / "run", 2, tmp_path / "other")
    assert not (tmp_path / "other").exists()


class Judged(PartStage):
    """The stage with evidence that is made up, to see what is made of it."""

    def __init__(self, images: Images, log: RunLog, gain: float) -> None:
        self.images, self.log, self.gain = images, log, gain
        self.held_out = torch.arange(0, len(images), 10)

    def _start(self, most: int) -> PartStart:
        motions = moving_density(np.random.default_rng(0).normal(size=(50, 1)).astype(np.float32)).motions
        return PartStart(motions, torch.ones(2, BOX, BOX, BOX), torch.ones(BOX, BOX, BOX), 0.9)

    def _fit(self, start: PartStart):
        return None, self._evidence(self.gain)

    def _network_posterior(self) -> StatePosterior:
        return self._evidence(0.0)

    def _evidence(self, gain: float) -> StatePosterior:
        count = len(self.images)
        return StatePosterior(torch.ones(count, 1), torch.ones(1), torch.full((count,), gain))

    def _finished(self, rounds, posterior) -> str:
        return "found"


@pytest.mark.parametrize(("gain", "chosen"), [(0.1, "found"), (0.0, None), (-0.1, None)])
def test_held_out_images_choose(moving: Simulated, gain: float, chosen: str | None):
    with RunLog(None) as log:
        # Without the check of types: what is found is a word here.
        judged = PartStage.run.__wrapped__ if hasattr(PartStage.run, "__wrapped__") else PartStage.run
        assert judged(Judged(moving.images, log, gain), 1) == chosen

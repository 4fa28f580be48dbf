"""Parts as a stage of a run: the choice by held-out images, and runs that have parts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cryoformer.checkpoint import load_tensors, save_tensors
from cryoformer.errors import InputError
from cryoformer.formats.load import load_particles
from cryoformer.images.fourier_images import Images
from cryoformer.linear.regions import Regions
from cryoformer.parts import fit, stage
from cryoformer.parts.density import PartDensities
from cryoformer.parts.fit import FitState
from cryoformer.parts.motion import LatentTerms, PartMotions
from cryoformer.parts.moving_density import MovingDensity
from cryoformer.parts.own_poses import PartSpread
from cryoformer.parts.posterior import StatePosterior
from cryoformer.parts.rounds import PartModel
from cryoformer.parts.stage import PartStage
from cryoformer.parts.start import start_parts
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
    monkeypatch.setattr(fit, "FIRST_ROUNDS", 1)
    monkeypatch.setattr(stage, "start_parts", partial(start_parts, steps=20))
    monkeypatch.setattr(stage, "STATES", 8)
    monkeypatch.setattr(stage, "LEAST_EXPLAINED", -100.0)
    monkeypatch.setattr(stage, "MOST_GAINED", 1.0)
    small_run(tmp_path / "run", parts=1, latent_states=8, stages=[{"box": 24, "epochs": 1, "batch": 64}])
    run = open_run(tmp_path / "run")
    (said,) = [line for line in run.metrics if line["stage"] == "parts"]
    assert (run.parts is not None) == (said["held_out_gain"] > 0)
    assert not (tmp_path / "run" / "checkpoints" / "parts_stage.safetensors").exists()

    density = moving_density(run.latents)
    save_tensors(tmp_path / "run" / "checkpoints" / "parts.safetensors", *density.tensors())
    run = open_run(tmp_path / "run")
    volume = next(run.particle_volumes([3]))
    (shift,) = density.motions.vectors(torch.from_numpy(run.latents[[3]]))[0, :, 3].tolist()
    wanted = blob((0.0, -20.0, 0.0), 12.0) + blob((shift, 30.0, 0.0), 8.0)
    assert np.abs(volume - wanted.numpy()).max() < 0.03

    subtract(tmp_path / "run", 1, tmp_path / "part")
    assert len(load_particles(tmp_path / "part" / "particles.star")) == len(run.latents)
    # What is taken off is as strong as the run says that each particle is.
    subspace = tmp_path / "run" / "checkpoints" / "subspace.safetensors"
    tensors, facts = load_tensors(subspace)
    save_tensors(subspace, tensors | {"contrast": 2 * tensors["contrast"]}, facts)
    subtract(tmp_path / "run", 1, tmp_path / "stronger")
    once, twice = (
        load_particles(tmp_path / name / "particles.star").images(np.array([3])) for name in ("part", "stronger")
    )
    assert np.abs(once - twice).max() > 0.05 * np.abs(once).max()

    with pytest.raises(InputError, match="parts 1 to 1"):
        subtract(tmp_path / "run", 2, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def evidence(count: int, gain: float) -> StatePosterior:
    return StatePosterior(torch.ones(count, 1), torch.full((count,), gain))


class Judged(PartStage):
    """The stage with evidence that is made up, to see what is made of it."""

    def __init__(self, images: Images, log: RunLog) -> None:
        self.images, self.log = images, log
        self.rows, self.seed, self.checkpoint = torch.arange(len(images)), 0, None
        self.held_out = torch.arange(0, len(images), 10)

    def _begin(self, most: int) -> FitState:
        motions = moving_density(np.random.default_rng(0).normal(size=(50, 1)).astype(np.float32)).motions
        one = torch.ones(BOX, BOX, BOX)
        return FitState(PartModel(motions, one[None], one, torch.zeros(4, 1)), torch.zeros(5, 2).long())

    def _network_evidence(self) -> torch.Tensor:
        return torch.zeros(len(self.held_out))

    def _finished(self, rounds, posterior, state) -> str:
        return "found"


@pytest.mark.parametrize(("gain", "chosen"), [(0.1, "found"), (0.0, None), (-0.1, None)])
def test_held_out_images_choose(moving: Simulated, gain: float, chosen: str | None, monkeypatch: pytest.MonkeyPatch):
    class Fitted:
        def __init__(self, *_: object) -> None: ...

        def run(self, state: FitState) -> tuple[None, StatePosterior, FitState]:
            return None, evidence(len(moving.images), gain), state

    monkeypatch.setattr(stage, "PartFit", Fitted)
    with RunLog(None) as log:
        # Without the check of types: what is found is a word here.
        judged = PartStage.run.__wrapped__ if hasattr(PartStage.run, "__wrapped__") else PartStage.run
        assert judged(Judged(moving.images, log), 1) == chosen


class ReadPoses:
    """Poses of their own that held-out images lose by."""

    def __init__(self, *_: object) -> None: ...

    def evidence(self) -> tuple[list["ReadPoses"], torch.Tensor]:
        return [self], torch.zeros(40)

    def take(self, rows: torch.Tensor) -> "ReadPoses":
        return self

    def fitted(self) -> PartSpread:
        return PartSpread(0.1, 1.0)

    def log_evidence(self, spread: PartSpread | None) -> torch.Tensor:
        return torch.arange(4.0) - (0.0 if spread is None else 1.0)

    def read(self, first: object, likelihood: torch.Tensor, spreads: list[PartSpread]) -> tuple[str, list[PartSpread]]:
        return "poses", spreads


@pytest.mark.parametrize(("poses", "found"), [("chosen", None), ("path", None), ("own", "poses")])
def test_poses_of_their_own_are_kept_where_they_gain_or_where_asked_for(
    moving: Simulated, poses: str, found: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stage, "OwnPoses", ReadPoses)
    with RunLog(None) as log:
        judged = Judged(moving.images, log)
        judged.poses = poses
        densities = SimpleNamespace(densities=moving_density(np.zeros((9, 1), np.float32)).densities, motions=None)
        images = SimpleNamespace(minus=lambda _: None)
        judged.images = images
        read = (
            PartStage._own_poses.__wrapped__ if hasattr(PartStage._own_poses, "__wrapped__") else PartStage._own_poses
        )
        assert read(judged, densities, torch.zeros(40, 1)) == found


def start_of(densities: Callable[[torch.Tensor], list[np.ndarray]], monkeypatch: pytest.MonkeyPatch) -> object:
    """What the stage starts from, for a network that decodes these densities; one part that explains all is offered."""

    class Decoded(PartStage):
        def __init__(self, log: RunLog) -> None:
            self.images, self.log, self.seed = SimpleNamespace(box=BOX, voxel_angstrom=PIXEL), log, 0
            self.latents, self.regions = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)), Regions()
            self.network = SimpleNamespace(window=torch.ones(BOX, BOX, BOX), volumes=densities)

    monkeypatch.setattr(stage, "start_parts", lambda *_: SimpleNamespace(explained=0.9))
    with RunLog(None) as log:
        begin = PartStage._start.__wrapped__ if hasattr(PartStage._start, "__wrapped__") else PartStage._start
        return begin(Decoded(log), 1)


def test_states_reach_the_ends_of_a_motion_that_means_do_not():
    true = 2 * torch.rand(4000, 1, generator=torch.Generator().manual_seed(0)) - 1
    seen = true + 0.5 * torch.randn(4000, 1, generator=torch.Generator().manual_seed(1))
    shrunk = float(true.var() / seen.var())
    covariance = ((1 - shrunk) * true.var()).expand(4000, 1, 1)
    states = stage.states_of_population(shrunk * seen, covariance, 2000, 2)
    assert states.std() == pytest.approx(float(true.std()), rel=0.05)


def test_a_network_that_decodes_one_density_has_no_parts(moving: Simulated, monkeypatch: pytest.MonkeyPatch):
    assert start_of(lambda some: [moving.still.numpy()] * len(some), monkeypatch) is None


def test_density_that_comes_and_goes_is_no_part(moving: Simulated, monkeypatch: pytest.MonkeyPatch):
    def swinging(some: torch.Tensor) -> list[np.ndarray]:
        return [(moving.still + blob((10.0 * float(z), 20.0, 0.0), 8.0)).numpy() for z in some[:, 0]]

    def there_or_not(some: torch.Tensor) -> list[np.ndarray]:
        return [(moving.still + float(z > 0) * blob((0.0, 20.0, 0.0), 8.0)).numpy() for z in some[:, 0]]

    assert start_of(swinging, monkeypatch) is not None
    assert start_of(there_or_not, monkeypatch) is None


def test_the_share_gained_is_nothing_for_motion_and_all_for_what_comes_and_goes():
    assert stage.share_gained(torch.eye(8)) == pytest.approx(0.0, abs=1e-6)
    assert stage.share_gained(torch.tensor([[0.0, 1.0, 5.0], [0.0, 3.0, 5.0]])) == pytest.approx(1.0)

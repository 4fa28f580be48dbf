"""Parts as a stage of a run: the choice by held-out images, and runs that have parts."""

from collections.abc import Callable, Iterator
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
from cryoformer.parts import choice, fit, stage
from cryoformer.parts.choice import Candidate
from cryoformer.parts.density import PartDensities
from cryoformer.parts.fit import FitState
from cryoformer.parts.motion import LatentTerms, PartMotions
from cryoformer.parts.moving_density import MovingDensity
from cryoformer.parts.own_poses import PartSpread
from cryoformer.parts.rounds import PartModel
from cryoformer.parts.stage import PartStage
from cryoformer.parts.start import start_parts
from cryoformer.progress import RunLog
from cryoformer.run.run_folder import open_run
from cryoformer.run.subtract import subtract
from toy_images import BOX, PIXEL, SMALL, Simulated, blob


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
    monkeypatch.setattr(choice, "FIRST_ROUNDS", 1)
    monkeypatch.setattr(choice, "RACE_ROUNDS", 1)
    monkeypatch.setattr(stage, "start_parts", partial(start_parts, steps=20))
    monkeypatch.setattr(stage, "STATES", 8)
    monkeypatch.setattr(stage, "LEAST_GAIN", -1e9)
    small_run(tmp_path / "run", parts=1, latent_states=8, stages=[{"box": 24, "epochs": 1, "batch": 64}])
    run = open_run(tmp_path / "run")
    (said,) = [line for line in run.metrics if line["stage"] == "parts"]
    assert (run.parts is not None) == (said["parts"] > 0)
    tried = [line for line in run.metrics if line["stage"] == "parts_choice"]
    assert [line["parts"] for line in tried] == [0, 1]
    assert ("tried" in said) == (tried[1]["held_out"] > tried[0]["held_out"])
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


class Judged(PartStage):
    """The stage with evidence that is made up, to see what is made of it."""

    def __init__(self, images: Images, log: RunLog) -> None:
        self.images, self.log = images, log
        self.network = self.support = None
        self.rows, self.seed, self.checkpoint = torch.arange(len(images)), 0, None
        self.held_out = torch.arange(0, len(images), 10)
        self.latents, self.occupancy = torch.rand(50, 1), torch.ones(1)

    def _first_draws(self) -> None: ...

    def _starts(self, most: int, terms: LatentTerms) -> Iterator[SimpleNamespace]:
        for parts in range(1, most + 1):
            yield SimpleNamespace(motions=[0] * parts, explained=1 - 0.5**parts)

    def _finished(self, rounds, posterior, state) -> int:
        return len(state.model.motions)


def candidate(parts: int, likelihood: float) -> Candidate:
    terms = LatentTerms.of_population(torch.linspace(0, 1, 9)[:, None])
    motions = PartMotions(terms, torch.zeros(parts, 3), torch.zeros(parts, len(terms.scale), 6))
    model = PartModel(motions, torch.zeros(parts, 2, 2, 2), torch.zeros(2, 2, 2), torch.zeros(4, 1))
    return Candidate(FitState(model, torch.zeros(5, 2).long()), likelihood + torch.arange(4.0))


@pytest.mark.parametrize(
    ("coarse", "full", "chosen"),
    [
        ([0.1, 0.2, 0.1], 1.0, 2),
        ([0.1, 0.0, 0.3], 1.0, 1),
        # One part that holds two domains is worse than none, two are better.
        ([-1.0, 0.2, 0.1], 1.0, 2),
        ([-1.0, -0.1, 0.3], 1.0, 3),
        ([-1.0, -0.1, -0.3], 1.0, None),
        ([0.0, 0.0, 0.0], 1.0, None),
        ([0.1, 0.2, 0.1], -1.0, None),
    ],
)
def test_held_out_images_choose(
    moving: Simulated, coarse: list[float], full: float, chosen: int | None, monkeypatch: pytest.MonkeyPatch
):
    class Offered:
        """The candidates; nothing is known to be worse at the full box than 0."""

        def __init__(self, *_: object) -> None: ...

        def without_parts(self, *_: object) -> Candidate:
            return candidate(0, 0.0)

        def fitted(self, start: SimpleNamespace, rival: Candidate) -> Candidate:
            return candidate(len(start.motions), coarse[len(start.motions) - 1])

    class Fitted:
        def __init__(self, *_: object) -> None: ...

        def finish(self, state: FitState) -> tuple[SimpleNamespace, None, FitState]:
            return SimpleNamespace(evidence=lambda _: full + torch.arange(4.0)), None, state

    monkeypatch.setattr(stage, "PartFit", Fitted)
    monkeypatch.setattr(stage, "PartChoice", Offered)
    with RunLog(None) as log:
        stage_of = Judged(moving.images, log)
        # Without the check of types: candidates are only numbers here.
        for name in ("run", "_choose"):
            plain = getattr(PartStage, name)
            monkeypatch.setattr(Judged, name, getattr(plain, "__wrapped__", plain), raising=False)
        assert stage_of.run(3) == chosen


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


def test_a_network_without_places_has_no_parts_and_the_run_says_so(small_run: Callable[..., str], tmp_path: Path):
    small = SMALL["model"]
    assert isinstance(small, dict)
    one = [{"box": 24, "epochs": 1, "batch": 64}]
    small_run(tmp_path / "run", parts=1, model=small | {"domain": "fourier"}, stages=one)
    assert open_run(tmp_path / "run").parts is None
    assert "parts that move are looked for in real space" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.parametrize(("poses", "found"), [("chosen", None), ("path", None), ("own", "poses")])
def test_poses_of_their_own_are_kept_where_they_gain_or_where_asked_for(
    moving: Simulated, poses: str, found: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stage, "OwnPoses", ReadPoses)
    with RunLog(None) as log:
        judged = Judged(moving.images, log)
        judged.poses = poses
        densities = moving_density(np.zeros((9, 1), np.float32)).densities
        rounds = SimpleNamespace(densities=densities, motions=None, cleared=None, residuals=lambda _: None)
        read = (
            PartStage._own_poses.__wrapped__ if hasattr(PartStage._own_poses, "__wrapped__") else PartStage._own_poses
        )
        assert read(judged, rounds, torch.zeros(40, 1)) == found


def test_a_network_that_decodes_one_density_has_no_parts(moving: Simulated):
    class Decoded(PartStage):
        def __init__(self, log: RunLog) -> None:
            self.images, self.log, self.seed = SimpleNamespace(box=BOX, voxel_angstrom=PIXEL), log, 0
            self.latents, self.regions = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)), Regions()
            one = [moving.still.numpy()]
            self.network = SimpleNamespace(window=torch.ones(BOX, BOX, BOX), volumes=lambda some: one * len(some))

    with RunLog(None) as log:
        assert list(PartStage._starts(Decoded(log), 1, LatentTerms.of_population(torch.randn(100, 2)))) == []


def test_states_reach_the_ends_of_a_motion_that_means_do_not():
    true = 2 * torch.rand(4000, 1, generator=torch.Generator().manual_seed(0)) - 1
    seen = true + 0.5 * torch.randn(4000, 1, generator=torch.Generator().manual_seed(1))
    shrunk = float(true.var() / seen.var())
    covariance = ((1 - shrunk) * true.var()).expand(4000, 1, 1)
    states = stage.states_of_population(shrunk * seen, covariance, 2000, 2)
    assert states.std() == pytest.approx(float(true.std()), rel=0.05)

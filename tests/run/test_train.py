"""Whole runs on a small stack: they learn, go on after a kill as if nothing had happened, and refuse bad input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.files import read_mrc_volume
from cryoformer.formats.particle_input import ParticleInput, reopen
from cryoformer.run.run_folder import RunPaths, open_run
from cryoformer.run.train import train
from cryoformer.training.trainer import StageTrainer
from toy_images import BOX, PIXEL, SMALL

SmallRun = Callable[..., str]


@pytest.fixture(scope="module")
def finished(particle_file: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """One finished small run for the tests that only look at it."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train(ParticleInput(particle_file), out, overrides=dict(SMALL))
    return out


def test_run_directory_holds_what_users_rely_on(finished: Path) -> None:
    run = open_run(finished)
    latents = np.load(finished / "latents.npz", allow_pickle=False)
    k = latents["mean"].shape[1]
    assert latents["mean"].shape == (300, k)
    assert latents["covariance"].shape == (300, k, k)
    assert np.linalg.eigvalsh(latents["covariance"]).min() > 0
    volume, pixel_size = read_mrc_volume(finished / "volumes/consensus.mrc")
    assert volume.shape == (BOX, BOX, BOX)
    assert pixel_size == pytest.approx(PIXEL)
    assert {"consensus", "subspace", "train_16", "train_24", "done"} <= {line["stage"] for line in run.metrics}
    assert not [path for path in finished.rglob("*") if path.suffix in {".pkl", ".tmp", ".pt"}]


def test_loss_falls_below_that_of_the_mean(finished: Path) -> None:
    last = [line for line in open_run(finished).metrics if line["stage"].startswith("train")][-1]
    assert last["loss"] < last["base_loss"]
    assert last["conditioning"] > 0.05


def test_volumes_of_particles_differ_and_those_of_a_latent_repeat(finished: Path) -> None:
    run = open_run(finished)
    first = int(run.latents[:, 0].argmin())
    last = int(run.latents[:, 0].argmax())
    a, b = run.particle_volumes([first, last])
    assert np.abs(a - b).max() > 0.05 * a.max()
    (again,) = run.latent_volumes(run.latents[[first]])
    assert np.allclose(a, again, atol=1e-5 * a.max())  # the batch differs, and with it the order of sums


def test_same_seed_same_result(small_run: SmallRun, finished: Path, tmp_path: Path) -> None:
    small_run(tmp_path / "again")
    assert np.array_equal(open_run(tmp_path / "again").latents, open_run(finished).latents)


@pytest.mark.parametrize("after", [5, 61, 135])
def test_killed_and_resumed_is_as_if_undisturbed(
    small_run: SmallRun, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Die after some training steps and go on from the last checkpoint: the same numbers to the last digit."""
    out, steps = tmp_path / "run", [0]
    step = StageTrainer._step

    def dying(self: StageTrainer, *given: Any) -> tuple[float, float]:
        steps[0] += 1
        if steps[0] > after:
            raise KeyboardInterrupt
        return step(self, *given)

    monkeypatch.setattr(StageTrainer, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        small_run(out, checkpoint_seconds=1e-9)
    assert not (out / "latents.npz").exists()
    monkeypatch.setattr(StageTrainer, "_step", step)
    small_run(out, resume=True)
    assert np.array_equal(open_run(out).latents, open_run(finished).latents)


def test_run_that_streams_its_images_finds_the_same(small_run: SmallRun, finished: Path, tmp_path: Path) -> None:
    small_run(tmp_path / "run", memory_gib=0.0)
    streamed, held = open_run(tmp_path / "run"), open_run(finished)
    # Not bit by bit: coarse images come from a cache in float16.
    assert np.corrcoef(streamed.latents[:, 0], held.latents[:, 0])[0, 1] > 0.99
    assert not (tmp_path / "run" / "cache").exists()


def test_run_of_some_rows_writes_down_which(particle_file: Path, tmp_path: Path, monkeypatch: Any) -> None:
    np.savetxt(tmp_path / "rows.txt", np.arange(0, 300, 2), fmt="%d")
    source = ParticleInput(particle_file, ind=tmp_path / "rows.txt", random=120)
    loaded = source.load(seed=0)
    rows = loaded.rows
    assert rows is not None
    assert (rows % 2 == 0).all()
    monkeypatch.setattr("cryoformer.run.train.Reconstruction.run", lambda self: "stopped")
    train(source, tmp_path / "run", overrides={"invert": "no"})
    assert np.array_equal(np.load(tmp_path / "run" / "rows.npy"), rows)
    # Continued without the flags, on the same particles.
    (tmp_path / "rows.txt").unlink()
    again = reopen(tmp_path / "run", RunPaths(tmp_path / "run").read_config()).read(tmp_path / "run" / "rows.npy")
    assert np.array_equal(again.rotations, loaded.rotations)


def test_resuming_a_finished_run_does_nothing(small_run: SmallRun, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert "finished; nothing to do" in small_run(finished, resume=True)
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}


def test_other_particles_cannot_resume_a_run(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this run is of"):
        train(ParticleInput(tmp_path / "other.star"), finished, resume=True)


def test_time_limit_is_kept_and_still_gives_a_model(
    particle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryoformer.training.trainer.FALL", 1e9)  # nothing but time ends a stage
    settings = {"subspace.box": 16, "subspace.iterations": 2, "invert": "no", "latent_states": 8,
                "stages": [{"box": 16, "epochs": 500}, {"box": 24, "epochs": 500}]}  # fmt: skip
    train(ParticleInput(particle_file), tmp_path / "run", max_minutes=0.2, overrides=settings)
    elapsed = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])["elapsed_s"]
    assert elapsed < 2 * 12  # a shared machine may stall; 1,000 epochs would take many minutes
    assert open_run(tmp_path / "run").box == BOX


def test_a_run_cut_short_says_so_everywhere_and_goes_on(small_run: SmallRun, tmp_path: Path) -> None:
    out = tmp_path / "run"
    verdict = small_run(out, max_minutes=1e-3)
    assert "CUT SHORT" in verdict
    assert "of 4 epochs at 24 pixels" in verdict
    assert f"--out {out} --resume" in verdict
    run = open_run(out)
    assert any("at 24 pixels" in what for what in run.cut_short)
    assert "CUT SHORT" in (out / "README.txt").read_text()
    log = (out / "log.txt").read_text()
    assert verdict in log
    assert "this call may take 0.001 minutes" in log
    assert run.metrics[-1]["cut_short"] == list(run.cut_short)
    # As little time again goes on from there; without a limit the last stage gets all of its epochs.
    steps = [line["step"] for line in run.metrics if line["stage"] == "train_24"]
    assert "CUT SHORT" in small_run(out, max_minutes=1e-3, resume=True)
    last = small_run(out, resume=True)
    assert "at 24 pixels" not in last
    run = open_run(out)
    assert [line["step"] for line in run.metrics if line["stage"] == "train_24"][-1] > max(steps, default=0)
    assert "nothing to do" in small_run(out, resume=True)
    # What the coarse stage lacks stays said.
    assert all("at 16 pixels" in what for what in run.cut_short)


@pytest.mark.parametrize("minutes", [0.0, -5.0, float("nan"), float("inf")])
def test_a_time_limit_is_a_positive_number(particle_file: Path, tmp_path: Path, minutes: float) -> None:
    with pytest.raises(InputError, match="--max-minutes"):
        train(ParticleInput(particle_file), tmp_path / "run", max_minutes=minutes)
    assert not (tmp_path / "run").exists()


def test_a_start_that_fails_leaves_nothing_that_blocks_the_next(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("cryoformer.run.stages.fit_linear_stage", failing)
    with monkeypatch.context() as patch:
        patch.setattr("cryoformer.run.stages.prepare_images", failing)
        with pytest.raises(MemoryError):
            small_run(tmp_path / "run")
    assert not any((tmp_path / "run").iterdir())
    # Once a stage is done it is worth going on from: nothing is taken away.
    with pytest.raises(MemoryError):
        small_run(tmp_path / "run")
    assert (tmp_path / "run/checkpoints/consensus.safetensors").is_file()
    with pytest.raises(InputError, match="--resume"):
        small_run(tmp_path / "run")


def test_bad_input_leaves_nothing_behind(tmp_path: Path, particle_file: Path) -> None:
    with pytest.raises(InputError):
        train(ParticleInput(tmp_path / "none.star"), tmp_path / "run")
    with pytest.raises(InputError, match="learning_rate"):
        train(ParticleInput(particle_file), tmp_path / "run", overrides={"learning_rate": -1.0})
    assert not (tmp_path / "run").exists()


def test_folder_with_something_in_it_is_left_alone(tmp_path: Path, particle_file: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        train(ParticleInput(particle_file), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("settings: {}\n")
    with pytest.raises(InputError, match="--resume"):
        open_run(tmp_path)

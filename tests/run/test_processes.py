"""Several processes find what one finds, and a process that dies ends the run, which then goes on with --resume."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cryoformer.checkpoint import load_tensors
from cryoformer.errors import InputError
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.run.run_folder import RunPaths, open_run
from cryoformer.run.train import train
from toy_images import SMALL

SETTINGS: dict[str, Any] = {
    **SMALL,
    "stages": [{"box": 16, "epochs": 4, "batch": 32}, {"box": 24, "epochs": 2, "batch": 32}],
}
VARIANTS: dict[str, dict[str, Any]] = {
    "read from disk": {"memory_gib": 0.0},
    "one image a state": {"images_per_state": 1},
    "image encoder": {"model": SETTINGS["model"] | {"encoder": "mlp"}, "decode": "occupied"},
    "fourier": {"model": SETTINGS["model"] | {"domain": "fourier"}},
    "no refined latents": {"refine_latents": False, "base": False},
}


@pytest.fixture(scope="module")
def alone(particle_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by one process."""
    return run_with(1, particle_file, tmp_path_factory.mktemp("alone") / "run")


def run_with(devices: int, particles: Path, out: Path, **more: Any) -> Path:
    train(ParticleInput(particles), out, overrides=SETTINGS | more | {"devices": devices})
    return out


def assert_same(found: Path, expected: Path) -> None:
    """To rounding as far as sums go; what is trained on states that are drawn by latents' order, nearly."""
    names = ["consensus"] + ["subspace"] * RunPaths(expected).checkpoint("subspace").exists()
    for name in names:
        ours, theirs = (load_tensors(RunPaths(path).checkpoint(name))[0] for path in (found, expected))
        for key, value in theirs.items():
            assert (ours[key] - value).abs().max() <= 1e-4 * value.abs().max(), (name, key)
    ours, theirs = open_run(found), open_run(expected)
    for line, other in zip(ours.metrics, theirs.metrics, strict=True):
        assert line["stage"] == other["stage"]
        if line["stage"] in ("subspace", "train_16"):
            first = "log_likelihood" if line["stage"] == "subspace" else "loss"
            assert line[first] == pytest.approx(other[first], abs=2e-4)
    difference = ours.latents - theirs.latents
    assert np.sqrt(np.square(difference).mean()) < 0.05
    for volume, other in zip(ours.particle_volumes([0, 150]), theirs.particle_volumes([0, 150]), strict=True):
        assert np.abs(volume - other).max() < 0.03 * np.abs(other).max()


def test_two_processes_find_what_one_finds(alone: Path, particle_file: Path, tmp_path: Path) -> None:
    assert_same(run_with(2, particle_file, tmp_path / "run"), alone)
    assert not (tmp_path / "run" / "cache").exists()


@pytest.mark.slow
def test_four_processes_find_what_one_finds(alone: Path, particle_file: Path, tmp_path: Path) -> None:
    assert_same(run_with(4, particle_file, tmp_path / "run"), alone)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_by_two_processes(variant: str, particle_file: Path, tmp_path: Path) -> None:
    one, two = (run_with(n, particle_file, tmp_path / str(n), **VARIANTS[variant]) for n in (1, 2))
    assert_same(two, one)


def test_wrong_input_is_told_before_anything_is_written(particle_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        run_with(2, particle_file, tmp_path)


@pytest.mark.slow
def test_torchrun_tells_an_error_once(particle_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "cryoformer",
         "train", str(particle_file), "--out", str(tmp_path)],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ended.returncode != 0
    assert ended.stderr.count("cryoformer: error:") == 1


@pytest.mark.slow
def test_torchrun_finds_what_one_process_finds(alone: Path, particle_file: Path, tmp_path: Path) -> None:
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "cryoformer",
         "train", str(particle_file), "--out", str(tmp_path / "run"), *settings],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("finished") == 1
    assert_same(tmp_path / "run", alone)


@pytest.fixture
def killed(particle_file: Path, tmp_path: Path) -> Iterator[Callable[[int, str], Path]]:
    """``killed(rank, name)``: a run by two processes, one of which is killed once a file of this name is there."""
    running: list[subprocess.Popen[str]] = []

    def run(rank: int, name: str) -> Path:
        out = tmp_path / "run"
        settings = SETTINGS | {"devices": 2, "checkpoint_seconds": 1e-9}
        command = [sys.executable, "-m", "cryoformer", "train", str(particle_file), "--out", str(out)]
        command += [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        running.append(process)
        while not (out / name).exists():
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.005)
        worker(process.pid, rank).kill()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert f"process {rank + 1} of 2 was killed (signal 9)" in said.splitlines()[-1]
        assert "--resume" in said.splitlines()[-1]
        assert "Traceback" not in said
        return out

    yield run
    for process in running:
        process.kill()


def worker(parent: int, rank: int) -> psutil.Process:
    """The processes are started in the order of their ranks."""
    children = psutil.Process(parent).children(recursive=True)
    return sorted((c for c in children if "spawn_main" in " ".join(c.cmdline())), key=lambda c: c.create_time())[rank]


def resumed(particles: Path, out: Path, devices: int) -> Path:
    train(ParticleInput(particles), out, resume=True, overrides={"devices": devices})
    return out


def test_killed_process_ends_the_run_and_one_process_goes_on(
    alone: Path, particle_file: Path, killed: Callable[[int, str], Path]
) -> None:
    out = killed(1, "checkpoints/subspace.safetensors")
    resumed(particle_file, out, devices=1)
    assert np.abs(open_run(out).latents - open_run(alone).latents).mean() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    "name", ["config.yaml", "checkpoints/consensus.safetensors", "checkpoints/training.safetensors"]
)
def test_killed_in_any_stage_and_resumed_by_three(
    alone: Path, particle_file: Path, killed: Callable[[int, str], Path], rank: int, name: str
) -> None:
    out = killed(rank, name)
    resumed(particle_file, out, devices=3)
    assert np.abs(open_run(out).latents - open_run(alone).latents).mean() < 0.05

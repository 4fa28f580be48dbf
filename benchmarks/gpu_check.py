"""What a CUDA GPU makes of this program, in at most six minutes: ``make gpu-check``.

    python benchmarks/gpu_check.py [--device cuda] [--out benchmarks/results/gpu.json] [--tiny] [--skip-tests]

Runs the tests of devices; simulates a stack of 128 pixels and trains on it with the CPU in float32 and with the GPU in
float32, tf32 and bf16, quick preset, and compares the scores; times training steps at 64, 128 and 256 pixels with their
peak memory; profiles a step: how much of its time kernels run, which tells whether their launches are the limit. A part
that fails is recorded with its error, and the next one runs. ``--device cpu --tiny`` is for the test of this script.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from kernel_bench.problem import Problem
from lightning_fabric import Fabric

from cryoformer import __version__
from cryoformer.assess.evaluate import evaluate
from cryoformer.decode.density_model import ConformationModel
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.run.run_folder import open_run
from cryoformer.run.train import train
from cryoformer.simulate.simulate_config import SimulateConfig
from cryoformer.simulate.stack import simulate
from cryoformer.simulate.structures import adk_models
from cryoformer.training.encoder_inputs import KnownLatents
from cryoformer.training.state import TrainingState
from cryoformer.training.train_config import Stage, TrainConfig
from cryoformer.training.trainer import StageTrainer, StepReport

REPOSITORY = Path(__file__).resolve().parents[1]
SHARE, IMAGES_PER_STATE = 0.05, 4
BATCHES = {64: 128, 128: 128, 256: 32}


def main() -> int:
    """All parts; 1 if one has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "gpu.json")
    parser.add_argument("--tiny", action="store_true", help="small sizes: does the script work?")
    parser.add_argument("--skip-tests", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    found: dict[str, Any] = {"version": __version__, "tiny": options.tiny, **machine(device)}
    started = time.monotonic()
    parts: dict[str, Callable[[], Any]] = {} if options.skip_tests else {"tests": tests}
    with tempfile.TemporaryDirectory() as folder:
        parts["steps"] = lambda: [step_times(box, device) for box in ((16,) if options.tiny else (64, 128, 256))]
        parts["profile"] = lambda: profile(16 if options.tiny else 128, device)
        parts["runs"] = lambda: runs(Path(folder), device, options.tiny)
        for name, part in parts.items():
            begun = time.monotonic()
            try:
                found[name] = part()
            except Exception as error:
                traceback.print_exc()
                found[name] = {"failed": f"{type(error).__name__}: {error}"[:500]}
            found[f"{name}_seconds"] = round(time.monotonic() - begun, 1)
            print(name, json.dumps(found[name], indent=1), flush=True)
            # Whatever happens next, this is known.
            options.out.parent.mkdir(parents=True, exist_ok=True)
            found["seconds"] = round(time.monotonic() - started, 1)
            options.out.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(isinstance(part, dict) and "failed" in part for part in found.values()))


def machine(device: torch.device) -> dict[str, Any]:
    """What it is measured on."""
    if device.type != "cuda":
        return {"device": str(device), "torch": torch.__version__}
    facts = torch.cuda.get_device_properties(device)
    gib = round(facts.total_memory / 2**30, 1)
    return {"device": facts.name, "memory_gib": gib, "torch": torch.__version__, "cuda": torch.version.cuda}


def tests() -> dict[str, Any]:
    """The tests that know devices, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", str(REPOSITORY / "tests" / "run" / "test_device.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    return {"passed": last} if done.returncode == 0 else {"failed": last, "output": done.stdout[-3000:]}


def runs(folder: Path, device: torch.device, tiny: bool) -> dict[str, Any]:
    """Scores and times of the same run on the CPU and on the device, in every precision it has."""
    images, box, pixel_size = (300, 24, 5.0) if tiny else (4000, 128, 1.4)
    size: dict[str, Any] = {"images": images, "box": box, "pixel_size_angstrom": pixel_size}
    begun = time.monotonic()
    truth = simulate(SimulateConfig(models=adk_models(), out=folder / "particles", snr=0.1, seed=1, **size))
    found: dict[str, Any] = {"simulate_seconds": round(time.monotonic() - begun, 1), **size}
    kinds = [("cpu", "float32")]
    kinds += [(str(device), precision) for precision in ("float32", "tf32", "bf16")] if device.type != "cpu" else []
    for where, precision in kinds:
        out = folder / f"{where.replace(':', '_')}_{precision}"
        settings: dict[str, Any] = {"device": where, "precision": precision, "seed": 1, "parts": 0}
        if tiny:
            settings |= {"stages": [{"box": 16, "epochs": 0.5}], "subspace": {"box": 16, "iterations": 2},
                         "latent_states": 8, "model": {"queries": 8, "channels": 8}}  # fmt: skip
        begun = time.monotonic()
        train(ParticleInput(truth / "particles.star"), out, preset="quick", max_minutes=1.0, overrides=settings)
        seconds = round(time.monotonic() - begun, 1)
        source = evaluate(out, truth, images=10)["sources"]["cryoformer"]
        stages = {str(line["stage"]): line["elapsed_s"] for line in open_run(out).metrics}
        found[out.name] = {"seconds": seconds, "elapsed_at_the_end_of": stages, "scores": plain(source)}
    return found


def plain(scores: dict[str, Any], within: str = "") -> dict[str, float]:
    """The numbers of nested scores, by their names with dots between."""
    found: dict[str, float] = {}
    for name, value in scores.items():
        if isinstance(value, dict):
            found |= plain(value, f"{within}{name}.")
        elif isinstance(value, int | float):
            found[within + name] = round(float(value), 4)
    return found


def trainer_of(box: int, device: torch.device, steps: int) -> tuple[StageTrainer, TrainingState]:
    """A trainer of a network of default size, with as many steps."""
    problem = Problem(box, max(64, round(SHARE * box**3)), BATCHES.get(box, 16), 0)
    made = problem.model
    model = ConformationModel(
        made.network.to(device), made.static.to(device), made.window.to(device), made.pixel_size_angstrom
    )
    images = problem.fourier_images(round(10 / 9 * problem.images * steps))
    images = replace(images, **{name: x.to(device) for name, x in vars(images).items() if isinstance(x, torch.Tensor)})
    stage = Stage(box=box, epochs=1, batch=problem.images)
    config = TrainConfig(device=str(device), images_per_state=IMAGES_PER_STATE, checkpoint_seconds=1e9)
    latents = problem.latents(len(images)).to(device)
    covariance = torch.eye(latents.shape[1], device=device).expand(len(latents), -1, -1)
    fabric = Fabric(accelerator=device.type, devices=1)
    return StageTrainer(model, images, KnownLatents(latents, covariance), stage, config, fabric), TrainingState(model)


def step_times(box: int, device: torch.device, steps: int = 12) -> dict[str, Any]:
    """Images per second of steady training, and the peak memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trainer, state = trainer_of(box, device, steps)
    times: list[float] = []
    trainer.run(state, lambda report: times.append(time.perf_counter()), lambda: None)
    # The first steps warm up, the last one reads the held-out images.
    seconds = sorted(after - before for before, after in pairwise(times[2:-1]))
    median = seconds[len(seconds) // 2]
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident()
    return {
        "box": box,
        "batch": trainer.batch,
        "points": len(trainer.points.voxels),
        "step_ms": round(1e3 * median, 2),
        "images_per_second": round(trainer.batch / median, 1),
        "peak_gib": round(peak / 2**30, 2),
    }


def profile(box: int, device: torch.device, steps: int = 12) -> dict[str, Any]:
    """Of some steps: the share of the time that kernels run, how many there are, and the longest."""
    trainer, state = trainer_of(box, device, steps)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profiler = torch.profiler.profile(activities=activities)
    began = ended = 0.0

    def report(step: StepReport) -> None:
        nonlocal began, ended
        if step.step == 3:
            profiler.start()
            began = time.perf_counter()
        if step.step == steps - 2:
            ended = time.perf_counter()
            profiler.stop()

    trainer.run(state, report, lambda: None)
    attribute = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, attribute))
    busy = sum(getattr(event, attribute) for event in events) / 1e6
    share = busy / (ended - began)
    longest = {event.key: round(getattr(event, attribute) / 1e6 / (ended - began), 4) for event in events[:12]}
    calls = sum(event.count for event in events) / (steps - 5)
    return {
        "share_in_kernels": round(share, 3),
        "launch_bound": share < 0.6,
        "operations_a_step": round(calls),
        "longest": longest,
    }


def _resident() -> float:
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())

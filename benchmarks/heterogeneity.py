"""Train and evaluate on a stack with ground truth: time, peak memory and scores, as JSON.

    python benchmarks/heterogeneity.py [PARTICLES.star --truth DIR] [--out FILE.json] [--preset default]

Without a stack, 2,000 images of adenylate kinase are simulated. The training runs in a process of its own, so that its
peak memory is its own.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("particles", nargs="?", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/heterogeneity.json"))
    parser.add_argument("--preset", default="default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        particles, truth = arguments.particles, arguments.truth
        if particles is None:
            truth = simulate(work / "particles")
            particles = truth / "particles.star"
        if truth is None:
            parser.error("a stack needs its --truth")
        result = measure(particles, truth, work / "run", arguments.preset)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def simulate(out: Path) -> Path:
    """A stack of adenylate kinase."""
    from cryoformer.simulate.simulate_config import SimulateConfig
    from cryoformer.simulate.stack import simulate as run
    from cryoformer.simulate.structures import adk_models

    return run(
        SimulateConfig(models=adk_models(), out=out, images=2000, box=64, pixel_size_angstrom=2.2, snr=0.1, seed=1)
    )


def measure(particles: Path, truth: Path, run: Path, preset: str) -> dict[str, object]:
    """Seconds, peak memory and scores of one run."""
    from cryoformer.assess.evaluate import evaluate

    command = [sys.executable, "-m", "cryoformer", "train", str(particles), "--out", str(run), "--preset", preset]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - started
    scores = evaluate(run, truth)["sources"]
    return {
        "particles": particles.name,
        "preset": preset,
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "train_seconds": round(seconds, 1),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 2),
        "auc_per_image": {
            name: {mask: round(value["auc_mean"], 4) for mask, value in source["per_image"].items()}
            for name, source in scores.items()
        },
        "r2": {
            name: round(s["latents"]["knn_r2"], 4)
            for name, s in scores.items()
            if s["latents"] and s["latents"]["knn_r2"] is not None
        },
    }


if __name__ == "__main__":
    main()

"""Methods in turn on one stack, each with the same time budget, scored by the same masks and metrics.

    python benchmarks/baselines.py [--particles STACK.star --truth DIR] [--methods cryoformer homogeneous subspace sfbp]
        [--max-minutes 5] [--out benchmarks/results/baselines.json]

Without a stack, 2,000 images of 32 x 32 pixels of adenylate kinase are simulated. Writes JSON, and beside it the table
as Markdown. cryodrgn needs --executable. A budget bounds the methods that train in epochs (cryoformer, sfbp,
cryodrgn); homogeneous and subspace take the time they take. Time to decode is part of no method's budget.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

METHODS = ("cryoformer", "homogeneous", "subspace", "sfbp", "cryodrgn")


def main() -> None:
    """Parse, fit, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["homogeneous", "subspace", "sfbp"])
    parser.add_argument("--max-minutes", type=float, default=5.0)
    parser.add_argument("--images", type=int, default=30, help="that scores per image are averaged over")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--executable", help="cryoDRGN's command")
    parser.add_argument("--set", action="append", default=[], metavar="METHOD.KEY=VALUE", help="setting of a method")
    parser.add_argument("--work", type=Path, help="folder that keeps what was fitted")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/baselines.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        particles, truth = arguments.particles, arguments.truth
        if particles is None:
            truth = simulate(work / "particles")
            particles = truth / "particles.star"
        if truth is None:
            parser.error("a stack needs its --truth")
        settings = settings_of(arguments.set, arguments.executable)
        for method in arguments.methods:
            fit(method, particles, work / method, arguments.max_minutes, arguments.seed, settings.get(method, {}))
        result = scores(arguments.methods, work, truth, arguments.images)
    result |= {
        "particles": particles.name,
        "max_minutes": arguments.max_minutes,
        "seed": arguments.seed,
        "settings": settings,
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "machine": platform.processor() or platform.machine(),
    }
    write(result, arguments.out)


def simulate(out: Path) -> Path:
    """A stack of adenylate kinase."""
    from cryoformer.simulate.config import SimulateConfig
    from cryoformer.simulate.stack import simulate as run
    from cryoformer.simulate.structures import adk_models

    return run(
        SimulateConfig(models=adk_models(), out=out, images=2000, box=32, pixel_size_angstrom=4.0, snr=0.1, seed=1)
    )


def settings_of(texts: list[str], executable: str | None) -> dict[str, dict[str, Any]]:
    """Settings of each method, from METHOD.KEY=VALUE."""
    from cryoformer.cli.arguments import parse_settings

    settings = parse_settings(texts)
    if executable is not None:
        settings.setdefault("cryodrgn", {})["executable"] = executable
    return settings


def fit(method: str, particles: Path, out: Path, max_minutes: float, seed: int, settings: dict[str, Any]) -> None:
    """One method, into its folder; a folder that is there already is kept."""
    from cryoformer.baselines.folder import fit_baseline
    from cryoformer.reconstruct.particle_input import ParticleInput
    from cryoformer.reconstruct.train import train

    if out.exists():
        return
    source = ParticleInput(particles)
    if method == "cryoformer":
        train(source, out, max_minutes=max_minutes, overrides=settings | {"seed": seed})
    else:
        fit_baseline(method, source, out, max_minutes=max_minutes, seed=seed, settings=settings)


def scores(methods: list[str], work: Path, truth: Path, images: int) -> dict[str, Any]:
    """What compare says, without the curves."""
    from cryoformer.assess.compare import Named, compare, table_of

    started = time.perf_counter()
    found = compare(
        truth, [Named(method, work / method) for method in methods], work / "comparison", images, plot=False
    )
    return {
        "table": table_of(found),
        "stack": {name: found["settings"][name] for name in ("particles", "box", "pixel_size_angstrom", "images")},
        "auc_of_a_perfect_map": found["settings"]["auc_of_a_perfect_map"],
        "compare_seconds": round(time.perf_counter() - started, 1),
    }


def write(result: dict[str, Any], out: Path) -> None:
    """JSON, and the table as Markdown beside it."""
    from cryoformer.assess.compare import markdown_table

    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    table = markdown_table(result["table"])
    out.with_suffix(".md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()

"""This project and cryoDRGN in turn on the same stack and cores: images per second, memory, and quality over time.

    python benchmarks/race.py [--particles STACK.star --truth DIR] [--cryodrgn ENVIRONMENT/bin/cryodrgn]
        [--parts pace quality] [--seconds 60] [--rounds 2] [--runs quick default]
        [--cryodrgn-minutes 60 | --cryodrgn-run DIR] [--work DIR] [--out benchmarks/results/race.json]

Without a stack, 600 images of 32 x 32 pixels of adenylate kinase are simulated; without --cryodrgn this project runs
alone. Writes JSON, and beside it the tables as Markdown.

pace: images per second in steady training. All take turns (A B C, A B C) for --seconds each; loading, the first seconds
and the ends of epochs are left out. Figures are medians of windows; ratios are taken within a round.

quality: the wall time of whole runs of this project (PRESET, or PRESET:MINUTES), start of the program to finished run,
and their scores; and cryoDRGN's scores after each epoch. --cryodrgn-minutes trains it here with its defaults;
--cryodrgn-run takes a training that exists (DIR/cryodrgn with config.yaml, weights.*.pkl, z.*.pkl), whose time is then
its epochs at the rate that pace measures, or --cryodrgn-rate says. Its scores after --reference-minutes are the marks
that this project has to pass; --mark adds others.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from racing import quality
from racing.contestants import CRYODRGN, Stack, our_contestants, peer_contestants
from racing.machine import facts
from racing.pace import pace, ratios
from racing.tables import tables


def main() -> None:
    """Parse, run, write."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        if arguments.particles is None:
            arguments.truth = simulate(work / "particles")
            arguments.particles = arguments.truth / "particles.star"
        stack = Stack(arguments.particles, arguments.seed, arguments.preset)
        result = about(arguments, stack)
        if arguments.cryodrgn is None:
            print("cryoDRGN is left out: give --cryodrgn ENVIRONMENT/bin/cryodrgn")
        if "pace" in arguments.parts:
            result["pace"] = race(arguments, stack, work)
        if "quality" in arguments.parts:
            result["quality"] = compare(arguments, stack, work, result.get("pace"))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    text = tables(result)
    arguments.out.with_suffix(".md").write_text(text)
    print(text)


def parse() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--particles", type=Path)
    add("--truth", type=Path, help="folder of the simulation (truth.npz and gt/); for quality")
    add("--cryodrgn", help="cryoDRGN's command, in an environment of its own")
    add("--parts", nargs="+", choices=("pace", "quality"), default=["pace", "quality"])
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--seed", type=int, default=0)
    add("--preset", default="default", help="whose boxes and batches pace times")
    add("--seconds", type=float, default=10.0, help="of steady training, per contestant and round")
    add("--rounds", type=int, default=2)
    add("--runs", nargs="+", default=["quick"], metavar="PRESET[:MINUTES]", help="of this project, for quality")
    add("--cryodrgn-minutes", type=float, default=0.5, help="to train cryoDRGN for, for quality")
    add("--cryodrgn-run", type=Path, help="a training of cryoDRGN to score instead")
    add("--cryodrgn-rate", type=float, help="its images per second, where pace is not run")
    add("--reference-minutes", type=float, default=60.0)
    add("--mark", action="append", default=[], metavar="NAME=VALUE", help=f"NAME: {', '.join(quality.SCORES)}")
    add("--images", type=int, default=100, help="that scores per image are averaged over")
    add("--work", type=Path, help="folder that keeps what was trained; what is there is not trained again")
    add("--out", type=Path, default=Path("benchmarks/results/race.json"))
    arguments = parser.parse_args()
    try:
        arguments.marks = {name: float(value) for name, value in (text.split("=") for text in arguments.mark)}
    except ValueError:
        parser.error(f"--mark {' '.join(arguments.mark)}: expected NAME=VALUE, such as moving=0.33")
    if set(arguments.marks) - set(quality.SCORES):
        parser.error(f"--mark: expected one of {', '.join(quality.SCORES)}")
    if arguments.particles and not arguments.truth and "quality" in arguments.parts:
        parser.error("quality needs the stack's --truth; or give --parts pace")
    return arguments


def simulate(out: Path) -> Path:
    """A small stack of adenylate kinase."""
    from cryoformer.simulate.simulate_config import SimulateConfig
    from cryoformer.simulate.stack import simulate as run
    from cryoformer.simulate.structures import adk_models

    if (out / "truth.npz").exists():
        return out
    return run(
        SimulateConfig(models=adk_models(), out=out, images=600, box=32, pixel_size_angstrom=4.0, snr=0.1, seed=1)
    )


def about(arguments: argparse.Namespace, stack: Stack) -> dict[str, Any]:
    """Stack, settings and machine."""
    particles = stack.load()
    kept = ("parts", "seed", "preset", "seconds", "rounds", "runs", "cryodrgn_minutes", "reference_minutes", "images")
    return {
        "stack": {
            "name": f"{arguments.particles.parent.name}/{arguments.particles.name}",
            "images": len(particles),
            "box": particles.box,
            "pixel_size_angstrom": round(particles.pixel_size_angstrom, 4),
        },
        "settings": {name: getattr(arguments, name) for name in kept},
        "machine": facts(arguments.threads, arguments.cryodrgn),
    }


def race(arguments: argparse.Namespace, stack: Stack, work: Path) -> dict[str, Any]:
    """The pace of all, and the ratios of this project at the images' own box to the others."""
    ours = our_contestants(stack, work, arguments.threads)
    peers = peer_contestants(stack, arguments.cryodrgn) if arguments.cryodrgn else []
    count = len(stack.load())
    found = pace([*ours, *peers], work, count, arguments.threads, arguments.seconds, arguments.rounds)
    return {"contestants": found, "ratios": {peer.name: ratios(found, ours[-1].name, peer.name) for peer in peers}}


def compare(arguments: argparse.Namespace, stack: Stack, work: Path, paces: dict[str, Any] | None) -> dict[str, Any]:
    """Scores over time of both, the marks, and when each was passed."""
    threads, images, truth = arguments.threads, arguments.images, arguments.truth
    ours = [quality.our_run(stack, name, truth, work, threads, images) for name in arguments.runs]
    peer: list[dict[str, Any]] = []
    if arguments.cryodrgn:
        folder = arguments.cryodrgn_run or quality.train_peer(
            stack, arguments.cryodrgn, arguments.cryodrgn_minutes, work, threads
        )
        rows = quality.peer_scores(folder, arguments.cryodrgn, stack, truth, images)
        rate = arguments.cryodrgn_rate or (paces and paces["contestants"][CRYODRGN]["images_per_second"])
        peer = quality.timed(rows, folder, len(stack.load()) / rate if rate else None)
    marks = {"given": arguments.marks} if arguments.marks else {}
    reference = quality.marks_of(peer, arguments.reference_minutes)
    if reference:
        # A shorter training is not called an hour.
        reached = min(arguments.reference_minutes, max(row["seconds"] or 0.0 for row in peer) / 60.0)
        marks[f"{CRYODRGN} after {reached:.3g} min"] = reference
    return {
        "this project": ours,
        CRYODRGN: peer,
        "marks": {
            name: {
                "scores": values,
                "this project, seconds": quality.first_passed(ours, values),
                "cryoDRGN, seconds": quality.first_passed(peer, values),
            }
            for name, values in marks.items()
        },
    }


if __name__ == "__main__":
    main()

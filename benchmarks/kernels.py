"""Every kernel against its floor: time, operations and bytes by a model, and the machine's own rates beside them.

    python benchmarks/kernels.py [--box 32 64 128] [--share 0.05 | --points 10000] [--images 32] [--seed 0]
        [--kernels decoding splatting ...] [--repetitions 7] [--threads 1 --clock processor]
        [--out benchmarks/results/kernels.json]

For each box: hash encoding, decoding, query decoder, splatting, transform + CTF + loss, image preparation, normal
equations, and a whole training step at ``--share`` of the voxels (or ``--points``), ``--images`` images a batch; then
the linear subspace at D = 32, k = 8. Inputs are synthetic: time depends on sizes alone.

Matrix products, copy and kernel are timed in turn, and shares are medians over these pairs, so that other load on the
machine meets both. The GEMM rate is the larger of that of a large product from memory and that of small ones from the
cache. Operations are those of the model, whatever the code spends; the floor is the time of a kernel's operations at
the GEMM rate or of its bytes at the copy rate, whichever is longer. Writes JSON, and the tables beside it as Markdown.
On a busy machine, one thread and its processor time are what can be relied on.
"""

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

COLUMNS = ("kernel", "ms", "floor ms", "GFLOP", "GFLOP/s", "of GEMM", "GB/s", "of copy", "images/s")
TRAINING_STEP = "training step"


def main() -> None:
    """Parse, measure every box in a process of its own, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--box", type=int, nargs="+", default=[32, 64, 128], help="even box sizes D")
    parser.add_argument("--share", type=float, default=0.05, help="of the voxels are decoded")
    parser.add_argument("--points", type=int, help="decoded, in place of --share")
    parser.add_argument("--images", type=int, default=32, help="of a batch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kernels", nargs="+", default=[""], help="only those whose name starts with one of these")
    parser.add_argument("--images-per-state", type=int, default=4, help="of a second training step, that shares states")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall", help="processor: for a busy machine")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--subspace-images", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kernels.json"))
    options = parser.parse_args()
    result: dict[str, Any] = {
        "settings": vars(options) | {"out": options.out.name},
        **alone(measure_machine, options),
        "boxes": [],
    }
    for box in options.box:
        found = alone(measure_box, box, options)
        if wanted(TRAINING_STEP, options):
            for shared in sorted({1, options.images_per_state}):
                step = alone(measure_step, box, shared, options)
                found["kernels"].append(step.pop("figures"))
                found |= step
        result["boxes"].append(found)
        print(table(found["kernels"]), flush=True)
        write(result, options.out)
    if wanted("subspace", options):
        result["subspace"] = alone(measure_subspace, options)
        print(table(result["subspace"]["kernels"]))
    write(result, options.out)


def write(result: dict[str, Any], out: Path) -> None:
    """JSON, and the tables beside it, as far as they are measured."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    out.with_suffix(".md").write_text(report(result))


def wanted(name: str, options: argparse.Namespace) -> bool:
    """Whether a kernel is among those asked for."""
    return any(name.startswith(start) or start.startswith(name) for start in options.kernels)


def alone(function: Any, *arguments: Any) -> dict[str, Any]:
    """The result of a function in a process of its own: peak memory is that of this one measurement."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found: dict[str, Any] = pool.submit(function, *arguments).result()
    return found


def problem_of(box: int, options: argparse.Namespace) -> Any:
    """Inputs of this box."""
    from kernel_bench.problem import Problem

    return Problem(box, options.points or round(options.share * box**3), options.images, options.seed)


def measure_box(box: int, options: argparse.Namespace) -> dict[str, Any]:
    """All kernels at one box but the training step."""
    from kernel_bench.image_kernels import image_kernels
    from kernel_bench.machine import figures
    from kernel_bench.network_kernels import network_kernels

    problem, machine = problem_of(box, options), machine_of(options)
    rows = []
    for kernels in (network_kernels, image_kernels):
        for name, run, work in kernels(problem):
            if wanted(name, options):
                rows.append(figures(name, work, machine.time(run, options.repetitions)))
    return {"box": box, "points": problem.count, "images": options.images, "kernels": rows, "rates": machine.rates()}


def machine_of(options: argparse.Namespace) -> Any:
    """The machine with as many threads and the clock as asked for."""
    import torch
    from kernel_bench.machine import Machine

    if options.threads:
        torch.set_num_threads(options.threads)
    return Machine(time.process_time if options.clock == "processor" else time.perf_counter)


def measure_step(box: int, shared: int, options: argparse.Namespace) -> dict[str, Any]:
    """The training step and its peak memory."""
    from kernel_bench.machine import figures
    from kernel_bench.training_step import memory_of_inputs, peak_gib, step_work, time_steps

    problem = problem_of(box, options)
    timings = time_steps(problem, machine_of(options), options.repetitions, shared)
    peak = peak_gib()  # before the models of the work make inputs of their own
    name = f"{TRAINING_STEP}, {shared} image{'s' if shared > 1 else ''} a state"
    row = figures(name, step_work(problem, shared), timings)
    return {"figures": row, "step_peak_gib": peak, **memory_of_inputs(problem)}


def measure_subspace(options: argparse.Namespace) -> dict[str, Any]:
    """E-step, M-step, iteration, and the whole stage, at D = 32, k = 8."""
    from kernel_bench.machine import figures
    from kernel_bench.subspace_kernels import SubspaceProblem
    from kernel_bench.training_step import peak_gib

    problem, machine = SubspaceProblem(32, 8, options.subspace_images, options.seed), machine_of(options)
    rows = [figures(name, work, machine.time(run, options.repetitions)) for name, run, work in problem.kernels()]
    stage = problem.whole_stage(machine, 15)
    return {"kernels": rows, "whole_stage": stage, "peak_gib": peak_gib(), "rates": machine.rates()}


def measure_machine(options: argparse.Namespace) -> dict[str, Any]:
    """What ran all this, and its rates once more by themselves."""
    from kernel_bench.machine import description

    machine = machine_of(options)
    for _ in range(9):
        for name in machine.seen:
            machine.rate(name)
    return {"machine": description(), "rates": machine.rates()}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "| --- |" + " ---: |" * (len(COLUMNS) - 1)]
    for row in rows:
        cells = [
            row["kernel"],
            f"{1e3 * row['seconds']:.3g}",
            f"{1e3 * row['floor_seconds']:.3g}",
            f"{row['operations'] / 1e9:.3g}",
            f"{row['gflop_per_s']:.3g}",
            f"{100 * row['share_of_gemm']:.3g} %",
            f"{row['gb_per_s']:.3g}",
            f"{100 * row['share_of_copy']:.3g} %",
            f"{row['images_per_s']:.4g}" if "images_per_s" in row else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(result: dict[str, Any]) -> str:
    """All tables, what they were measured on, and the models of the work."""
    machine, rates = result["machine"], result["rates"]
    parts = [
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']} ({machine['capability']}); "
        f"{result['settings']['clock']} time.",
        "GFLOP/s of matrix products: "
        + ", ".join(f"{name.replace('_', ' from ')} {rate}" for name, rate in rates.items() if name != "copy")
        + f"; copy {rates['copy']} GB/s (read and written).",
    ]
    formulas: dict[str, str] = {}
    for found in result["boxes"]:
        title = f"## D = {found['box']}: {found['points']} points, {found['images']} images a batch"
        memory = f"Peak memory of the training step: {found['step_peak_gib']} GiB." if "step_peak_gib" in found else ""
        parts += [title, table(found["kernels"]), memory]
        formulas |= {row["kernel"]: row["formula"] for row in found["kernels"]}
    if "subspace" in result:
        stage = result["subspace"]["whole_stage"]
        parts += [
            f"## Linear subspace, {stage['images']} images",
            table(result["subspace"]["kernels"]),
            f"Whole stage, {stage['iterations']} iterations: {stage['seconds']} s, {stage['images_per_s']} images/s; "
            f"peak memory {result['subspace']['peak_gib']} GiB.",
        ]
        formulas |= {row["kernel"]: row["formula"] for row in result["subspace"]["kernels"]}
    models = "\n".join(f"* {name}: {formula}." for name, formula in formulas.items())
    parts += ["## Models of the work", "B images, P points, L levels, F features, N queries, C channels.", models]
    return "\n\n".join(part for part in parts if part) + "\n"


if __name__ == "__main__":
    main()

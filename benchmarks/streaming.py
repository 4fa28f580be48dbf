"""Images from disk against images in memory: training speed and peak memory, at the size given and many times it.

    python benchmarks/streaming.py [PARTICLES.star] [--copies 40] [--whole] [--json FILE]

PARTICLES is any particle file with its stack; without one, 2,000 images of adenylate kinase are simulated. It is
copied ``--copies`` times into one stack (so the last run has that many times the images), and three runs follow one
another in processes of their own: images read from disk as they are used, the same held in memory, and the large stack
read from disk. Each trains on as many images as the others.
``--whole`` lets the large run go through all stages (static density and latents of every image included).
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import starfile
from heterogeneity import simulate

TRAINED = {32: 6400, 64: 3200}  # images per stage, by box


def enlarge(source: Path, copies: int, folder: Path) -> Path:
    """The particles ``copies`` times over, in one stack with as many images."""
    from cryoformer.formats import load_particles

    particles = load_particles(source)
    stacks = particles.require_stacks()
    dtype = stacks.headers[0].dtype
    count, box = len(particles), particles.box
    with mrcfile.new_mmap(
        folder / "big.mrcs", shape=(copies * count, box, box), mrc_mode={2: 12, 4: 2}[dtype.itemsize], overwrite=True
    ) as file:
        for copy in range(copies):
            for start in range(0, count, 1000):
                rows = np.arange(start, min(start + 1000, count))
                file.data[copy * count + rows] = stacks.read(rows)
    tables = starfile.read(source)
    rows = tables["particles"]
    rows = rows.loc[np.tile(np.arange(count), copies)]
    rows["rlnImageName"] = [f"{i + 1}@big.mrcs" for i in range(len(rows))]
    starfile.write({**tables, "particles": rows}, folder / "big.star", overwrite=True)
    return folder / "big.star"


def forget(folder: Path) -> None:
    """Take the stacks out of the system's page cache."""
    for path in folder.glob("*.mrcs"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(star: Path, out: Path, count: int, memory_gib: float, whole: bool) -> dict[str, Any]:
    """Train in a process of its own; what its log says, and its peak memory."""
    stages = [{"box": box, "epochs": images / count, "batch": 32} for box, images in TRAINED.items()]
    command = [sys.executable, "-m", "cryoformer", "train", str(star), "--out", str(out)]
    command += ["--set", f"memory_gib={memory_gib}", "--set", f"stages={json.dumps(stages)}"]
    command += ["--set", "subspace.iterations=3"]
    if not whole:
        command += ["--set", "base=false", "--set", "decode=flexible", "--set", "refine_latents=false"]
    forget(star.parent)
    _, status, usage = os.wait4(subprocess.Popen(command).pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    speeds = {line["stage"]: line["images_per_second"] for line in lines if "images_per_second" in line}
    return {
        "images": count,
        "images_in_memory": memory_gib > 0,
        "images_per_second": speeds,
        "peak_memory_gib": round(usage.ru_maxrss / 2**20, 3),
        "seconds": lines[-1]["elapsed_s"],
    }


def main() -> None:
    """Three runs, a table and the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("particles", nargs="?", type=Path)
    parser.add_argument("--copies", type=int, default=40)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "small").mkdir()
        (folder / "large").mkdir()
        particles = options.particles or simulate(folder / "simulated") / "particles.star"
        # In a process of its own: the peak memory of a run counts from what its parent holds.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            small = pool.submit(enlarge, particles, 1, folder / "small").result()
            large = pool.submit(enlarge, particles, options.copies, folder / "large").result()
        count = len(starfile.read(small)["particles"])
        results = [
            run(small, folder / "disk", count, 0.0, False),
            run(small, folder / "memory", count, 8.0, False),
            run(large, folder / "many", count * options.copies, 0.0, options.whole),
        ]
    print(json.dumps(results, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

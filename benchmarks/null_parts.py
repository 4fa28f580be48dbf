"""How often a part is claimed that is not there: whole runs on particles that do not move, or that only come and go.

    python benchmarks/null_parts.py [--sets 60] [--out benchmarks/results/null_parts.json]

Each set is 600 images of 32^2 at one of four noise levels, of blobs that stay still; every fifth also with one blob
that swings by 40 A, and with one that half of the particles lack. Runs are of a small network, the stage of the parts
is that of every run.
"""

import argparse
import contextlib
import io
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mrcfile
import numpy as np
import torch
from nulls import BOX, COUNT, NOISE, PIXEL, STILL, blob

from cryoformer.formats.particle_input import ParticleInput
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.imaging.ctf import CTFParameters, contrast_transfer
from cryoformer.imaging.fourier import fourier_to_images
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.run.run_folder import open_run
from cryoformer.run.train import train

SETTINGS: dict[str, Any] = {
    "subspace": {"box": 16, "dimension": 2, "iterations": 8},
    "stages": [{"box": 16, "epochs": 4, "batch": 32}, {"box": 32, "epochs": 2, "batch": 32}],
    "model": {"queries": 8, "channels": 8, "hash_levels": 4, "hash_table_log2": 10, "encoder_layers": 2},
    "latent_states": 32,
    "invert": "no",
    "parts": 2,
}
KINDS = ("still", "moving", "comes and goes")


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/null_parts.json"))
    arguments = parser.parse_args()
    started, rows = time.process_time(), []
    for number in range(arguments.sets):
        for kind in KINDS if number % 5 == 0 else KINDS[:1]:
            rows.append(one_set(kind, NOISE[number % len(NOISE)], number))
            print(json.dumps(rows[-1]), flush=True)
            write(arguments.out, rows, time.process_time() - started)


def write(path: Path, rows: list[dict[str, Any]], seconds: float) -> None:
    """What is known so far."""
    result: dict[str, Any] = {"images": COUNT, "box": BOX, "cores": os.cpu_count(), "processor_seconds": round(seconds)}
    for kind in KINDS:
        some = [row for row in rows if row["kind"] == kind]
        result[kind] = {"sets": len(some), "with_parts": sum(row["parts"] > 0 for row in some)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result | {"runs": rows}, indent=1) + "\n")


def one_set(kind: str, noise: float, number: int) -> dict[str, Any]:
    """Simulate one set, and what a run says of its parts."""
    with TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        particles = simulate(kind, noise, number, Path(folder) / "particles")
        train(ParticleInput(particles), Path(folder) / "run", overrides=SETTINGS | {"seed": number})
        metrics = open_run(Path(folder) / "run").metrics
    said = next(line for line in metrics if line["stage"] == "parts")
    found = {name: round(said[name], 4) for name in ("held_out_gain", "held_out_error") if name in said}
    tried = [line for line in metrics if line["stage"] == "parts_choice" and "gain" in line]
    gains = [[round(line[name], 4) for name in ("gain", "error", "explained")] for line in tried]
    own = [line["kept"] for line in metrics if line["stage"] == "own_poses"]
    return {"kind": kind, "seed": number, "noise": noise, "parts": said["parts"], "coarse": gains, **found} | (
        {"own_poses": own} if own else {}
    )


def simulate(kind: str, noise: float, seed: int, folder: Path) -> Path:
    """Write ``particles.star`` and its stack: blobs, one of which may swing, or be there in half of the particles."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 1, COUNT)
    rotations = uniform_rotations(COUNT, seed)
    one = torch.ones(COUNT)
    defocus = torch.tensor(rng.uniform(8000, 16000, COUNT), dtype=torch.float32)
    ctf = CTFParameters(defocus, defocus + 200, 30 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one)
    still = sum(blob(centre, sigma) for centre, sigma in STILL)
    places = 40.0 * (t - 0.5) if kind == "moving" else np.zeros(COUNT)
    there = t < 0.5 if kind == "comes and goes" else np.ones(COUNT, dtype=bool)
    density = torch.stack(
        [still + float(is_there) * blob((30.0, float(y), 5.0), 8.0) for y, is_there in zip(places, there, strict=True)]
    )
    turned = torch.tensor(rotations, dtype=torch.float32)
    clean = splat_project(density, grid_points(BOX, PIXEL), turned, None, BOX, PIXEL)
    pixels = noise * torch.randn(COUNT, BOX, BOX, generator=torch.Generator().manual_seed(seed))
    coefficients = clean * contrast_transfer(ctf, BOX, PIXEL) + torch.fft.rfft2(pixels)
    folder.mkdir(parents=True)
    with mrcfile.new(folder / "particles.mrcs") as file:
        file.set_data(fourier_to_images(coefficients, BOX).numpy())
        file.voxel_size = PIXEL
    names = [f"{row + 1:06d}@particles.mrcs" for row in range(COUNT)]
    write_particles_star(folder / "particles.star", names, rotations, np.zeros((COUNT, 2)), ctf, PIXEL, BOX)
    return folder / "particles.star"


if __name__ == "__main__":
    main()

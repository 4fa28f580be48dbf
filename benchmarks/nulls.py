"""How often the null tests are wrong: false motion where nothing moves, motion missed where something does.

    python benchmarks/nulls.py [--sets 20] [--nulls 5] [--noise 0.7 1.0 1.4 2.0] [--out benchmarks/results/nulls.json]

Each set is 600 images of 32^2 at one of four noise levels: of a small molecule of blobs that stays still, of the same
with one blob that swings by 40 A, or of noise alone. Each goes through the tests of `cryoformer validate`, which are
told nothing of the truth.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.ctf import CTFParameters, contrast_transfer
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.linear.consensus import reconstruct_consensus
from cryoformer.linear.occupancy import occupancy_mask
from cryoformer.linear.ppca import LEAST_INFORMATION
from cryoformer.linear.ppca_settings import PPCASettings
from cryoformer.validate.null_motion import MotionTest, compare_motion
from cryoformer.validate.null_structure import compare_structure

BOX, PIXEL, COUNT = 32, 4.0, 600
SETTINGS = PPCASettings(dimension=3)
NOISE = (0.7, 1.0, 1.4, 2.0)
STILL = (((0.0, 0.0, 0.0), 14.0), ((-20.0, 10.0, 15.0), 8.0), ((-5.0, -20.0, -20.0), 8.0))


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--nulls", type=int, default=5)
    parser.add_argument("--noise", type=float, nargs="+", default=NOISE, help="per pixel; the sets take them in turn")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/nulls.json"))
    arguments = parser.parse_args()
    started, rows = time.perf_counter(), []
    for number in range(arguments.sets):
        # What is missed shows in fewer sets than what is falsely found: two in five, over all noise levels.
        for kind in ("still", "noise", "moving") if number % 5 < 2 else ("still", "noise"):
            noise = arguments.noise[number % len(arguments.noise)]
            rows.append(one_set(kind, noise, number, arguments.nulls))
            print(json.dumps(rows[-1]), flush=True)
    result = {
        "images": COUNT,
        "box": BOX,
        "noise_per_pixel": arguments.noise,
        "dimension": SETTINGS.dimension,
        "sets": arguments.sets,
        "nulls": arguments.nulls,
        "cores": os.cpu_count(),
        "seconds": round(time.perf_counter() - started),
        **summary(rows),
        "runs": rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def one_set(kind: str, noise: float, number: int, nulls: int) -> dict[str, Any]:
    """Simulate one set and test it."""
    images = simulate(kind, noise, seed=number)
    row: dict[str, Any] = {"kind": kind, "seed": number, "noise": noise}
    if kind == "noise":
        test = compare_structure(images, nulls, number)
        found = test.observed
        return row | {"structure": test.stands_out, "p_value": test.p_value, "mean_fsc": round(found.mean_fsc, 4)}
    consensus = reconstruct_consensus(images)
    images = images.with_noise(consensus.noise_power)
    mask = occupancy_mask(consensus.volume, PIXEL)
    return row | motion_row(compare_motion(images, consensus.volume, mask, SETTINGS, nulls, number))


def motion_row(test: MotionTest) -> dict[str, Any]:
    """What counts of a test of motion."""
    return {
        "real_dimensions": test.dimensions,
        "dimensions_kept": int((test.observed.information > LEAST_INFORMATION).sum()),
        "p_value": test.p_values[0],
        "log_likelihood_p_value": test.likelihood_p_value,
        "information": [round(float(x), 4) for x in test.observed.information],
        "information_nulls_largest": [round(float(null.information[0]), 4) for null in test.nulls],
        "log_likelihood_gain": round(test.observed.log_likelihood, 4),
        "log_likelihood_gain_nulls": [round(null.log_likelihood, 4) for null in test.nulls],
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares of sets in which something was found, by the test and by the subspace's own rule."""
    still, moving, noise = ([row for row in rows if row["kind"] == kind] for kind in ("still", "moving", "noise"))
    return {
        "false_motion": sum(row["real_dimensions"] > 0 for row in still) / len(still),
        "motion_kept_by_the_subspace_where_nothing_moves": sum(r["dimensions_kept"] > 0 for r in still) / len(still),
        "motion_found": sum(row["real_dimensions"] > 0 for row in moving) / len(moving),
        "motion_found_by_noise": {
            str(level): float(np.mean([r["real_dimensions"] > 0 for r in moving if r["noise"] == level]))
            for level in sorted({row["noise"] for row in moving})
        },
        "false_structure": sum(row["structure"] for row in noise) / len(noise),
    }


def simulate(kind: str, noise: float, seed: int) -> FourierImages:
    """Images of blobs, of which one swings (``moving``), or of nothing (``noise``)."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 1, COUNT) if kind == "moving" else np.full(COUNT, 0.5)
    rotations = torch.tensor(uniform_rotations(COUNT, seed), dtype=torch.float32)
    one = torch.ones(COUNT)
    defocus = torch.tensor(rng.uniform(8000, 16000, COUNT), dtype=torch.float32)
    ctf = CTFParameters(defocus, defocus + 200, 30 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one)
    transfer = contrast_transfer(ctf, BOX, PIXEL)
    pixels = noise * torch.randn(COUNT, BOX, BOX, generator=torch.Generator().manual_seed(seed))
    coefficients = torch.fft.rfft2(pixels)
    if kind != "noise":
        still = sum(blob(centre, sigma) for centre, sigma in STILL)
        density = torch.stack([still + blob((30.0, 40.0 * (x - 0.5), 5.0), 8.0) for x in t.tolist()])
        coefficients = coefficients + transfer * splat_project(
            density, grid_points(BOX, PIXEL), rotations, None, BOX, PIXEL
        )
    return FourierImages(
        rotations=rotations,
        scale=torch.ones(COUNT),
        halves=torch.arange(COUNT) % 2,
        noise_power=torch.full((BOX // 2 + 1,), noise**2 * BOX**2),
        pixel_size_angstrom=PIXEL,
        voxel_angstrom=PIXEL,
        coefficients=coefficients,
        ctf=transfer,
    )


def blob(centre: tuple[float, float, float], sigma: float) -> torch.Tensor:
    """A Gaussian of unit height on the grid."""
    distance = grid_points(BOX, PIXEL) - torch.tensor(centre)
    return torch.exp(-distance.square().sum(dim=1) / (2 * sigma**2))


if __name__ == "__main__":
    main()

"""Poses from nothing against poses that are known: `cryoformer abinitio` on a file from which they were taken out.

    python benchmarks/abinitio.py PARTICLES [--out DIR] [--seeds 1 2 3] [--symmetry C1] [--options ...] [--json FILE]

PARTICLES is a STAR file with poses, of a simulation (true ones) or of a refinement. They are written to a file without
the columns of poses, which is all that the command gets. Errors are geodesic angles after one global rotation of all
particles, for the better hand; in a symmetric particle those of the nearest equivalent view. Maps are compared with the
back-projection at the known poses, after the same rotation: shells up to which they correlate by 0.5.
What is done in DIR is not done again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import starfile
from scipy.spatial.transform import Rotation

from cryoformer.formats import load_particles

POSES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginX", "rlnOriginY")
MIRROR = np.diag([1.0, 1.0, -1.0])
# Of the best global rotation: candidates that are tried, the quantile that decides, rounds of averaging near ones.
CANDIDATES, QUANTILE, ROUNDS, NEAR_DEGREES = 400, 0.4, 4, 10.0


def without_poses(particles: Path, folder: Path) -> Path:
    """The particle file without any column of poses; half-sets stay."""
    tables = starfile.read(particles, always_dict=True)
    name = next(name for name, table in tables.items() if "rlnImageName" in table)
    table = tables[name].drop(columns=[column for column in POSES if column in tables[name]])
    parts = table["rlnImageName"].str.split("@", expand=True)
    table["rlnImageName"] = parts[0] + "@" + parts[1].map(lambda path: str((particles.parent / path).resolve()))
    folder.mkdir(parents=True, exist_ok=True)
    starfile.write(tables | {name: table}, folder / "particles.star", overwrite=True)
    return folder / "particles.star"


def degrees_between(found: np.ndarray, known: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Angles between rotations [n, 3, 3], of the nearest equivalent view."""
    traces = np.stack([np.einsum("nij,nij->n", found @ each, known) for each in group]).max(axis=0)
    return np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))


def pose_errors(found: np.ndarray, known: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, bool]:
    """Errors in degrees after the best global rotation of ``found``, and whether it was mirrored."""
    best: tuple[float, np.ndarray, bool] | None = None
    for mirrored in (False, True):
        rotations = MIRROR @ found @ MIRROR if mirrored else found
        # Some particles propose the global rotation, some decide, and all that are near it are averaged.
        some = np.linspace(0, len(known) - 1, min(len(known), CANDIDATES)).round().astype(int)
        between = np.swapaxes(rotations[some], 1, 2) @ known[some]
        scores = [
            np.quantile(degrees_between(rotations[some] @ turn, known[some], group), QUANTILE) for turn in between
        ]
        turn = _averaged(between[int(np.argmin(scores))], rotations, known, group)
        errors = degrees_between(rotations @ turn, known, group)
        if best is None or np.quantile(errors, QUANTILE) < best[0]:
            best = (float(np.quantile(errors, QUANTILE)), errors, mirrored)
    assert best is not None
    return best[1], best[2]


def _averaged(turn: np.ndarray, rotations: np.ndarray, known: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The mean of what single particles say of the global rotation, of those that are near the one before."""
    for _ in range(ROUNDS):
        candidates = np.stack([np.swapaxes(rotations, 1, 2) @ known @ each.T for each in group], axis=1)
        traces = np.einsum("nkij,ij->nk", candidates, turn)
        place = traces.argmax(axis=1)
        near = traces[np.arange(len(place)), place] > 1 + 2 * np.cos(np.radians(NEAR_DEGREES))
        if near.sum() < 3:
            break
        chosen = candidates[np.arange(len(place)), place][near]
        turn = Rotation.from_matrix(chosen).mean().as_matrix()
    return turn


def measure(known: Path, seed: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One seed: seconds, errors, and what the program says of itself."""
    exact, group = load_particles(known), Rotation.create_group(options.symmetry).as_matrix()
    out, seconds = folder / f"seed_{seed}", folder / f"seconds_{seed}.txt"
    if not seconds.exists():
        bare = without_poses(known, folder / "bare")
        started = time.monotonic()
        command = ["abinitio", str(bare), "--out", str(out), "--seed", str(seed), *options.options]
        subprocess.run([sys.executable, "-m", "cryoformer", *command], check=True)
        seconds.write_text(f"{time.monotonic() - started:.1f}")
    record = json.loads((out / "abinitio.json").read_text())
    result: dict[str, Any] = {"seed": seed, "seconds": float(seconds.read_text())}
    for name in ("said", "agreement_of_starts", "views_alike", "certainty", "half_map_resolution_angstrom"):
        result[name] = record.get(name)
    if (out / "particles.star").exists():
        errors, mirrored = pose_errors(load_particles(out / "particles.star").rotations, exact.rotations, group)
        result |= {
            "mirrored": mirrored,
            "median_degrees": float(np.median(errors)),
            "within_10_degrees": float(np.mean(errors < 10)),
        }
    return result


def main() -> None:
    """Every seed, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("particles", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--symmetry", default="C1", help="of the particle, for the errors")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="more arguments of the command")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        results = []
        for seed in options.seeds:
            results.append(measure(options.particles, seed, folder, options))
            print(json.dumps(results[-1]), flush=True)
    if options.json is not None:
        facts = {"particles": options.particles.name, "symmetry": options.symmetry, "seeds": results}
        options.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Poses from nothing against poses that are known: `cryoformer abinitio` on a file from which they were taken out.

    python benchmarks/abinitio.py PARTICLES [--out DIR] [--seeds 1 2 3] [--symmetry C1] [--truth DIR]
        [--json FILE] [--options ...]

PARTICLES is a STAR file with poses, of a simulation (true ones) or of a refinement. They are written to a file without
the columns of poses, which is all that the command gets. What comes back is compared with them (pose_comparison.py).
What is done in DIR is not done again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import starfile
from harness import cryoformer, measured, scored_run
from pose_comparison import compare, degrees_within_states, framed

from cryoformer.formats.load import load_particles, open_particle_file

POSES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginX", "rlnOriginY")


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


def measure(known: Path, seed: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One seed: seconds, errors, and what the program says of itself."""
    out, seconds = folder / f"seed_{seed}", folder / f"seconds_{seed}.txt"
    if not seconds.exists():
        bare = without_poses(known, folder / "bare")
        took = cryoformer("abinitio", bare, "--out", out, "--seed", str(seed), *options.options)
        seconds.write_text(f"{took:.1f}")
    record = json.loads((out / "abinitio.json").read_text())
    result: dict[str, Any] = {"seed": seed, "seconds": float(seconds.read_text())}
    for name in ("said", "agreement_of_starts", "views_alike", "certainty", "half_map_resolution_angstrom"):
        result[name] = record.get(name)
    if (out / "particles.star").exists():
        result |= compare(out / "particles.star", known, options.symmetry, folder / "cache")
        if (known.parent / "truth.npz").exists():
            result |= by_motion(out / "particles.star", known, options.symmetry)
        if options.truth is not None:
            result |= trained_in_frame(known, seed, folder, options)
    return result


def by_motion(found: Path, known: Path, symmetry: str) -> dict[str, Any]:
    """Median errors of the fifths of the particles along their true motion, and without what nobody can know."""
    exact, motion = load_particles(known), np.load(known.parent / "truth.npz")["t"].reshape(-1)
    there = framed(load_particles(found), exact, symmetry)
    fifths = np.array_split(np.argsort(motion, kind="stable"), 5)
    within = degrees_within_states(there.particles.rotations, exact.rotations, motion)
    return {
        "median_degrees_of_fifths": [round(float(np.median(there.degrees[some])), 2) for some in fifths],
        "median_degrees_within_states": float(np.median(within)),
        "within_10_degrees_within_states": float(np.mean(within < 10)),
    }


def trained_in_frame(known: Path, seed: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Runs without parts at the poses found, in the frame of the truth, and at the true ones."""
    listed, found = open_particle_file(known), open_particle_file(folder / f"seed_{seed}" / "particles.star").read()
    (folder / f"framed_{seed}").mkdir(exist_ok=True)
    file = listed.write_posed(framed(found, listed.read(), options.symmetry).particles, folder / f"framed_{seed}")
    return {
        "run": scored_run(file, folder / f"run_{seed}", options.truth, "--set", "parts=0"),
        "run_at_known_poses": scored_run(known, folder / "run_known", options.truth, "--set", "parts=0"),
    }


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Every seed, one after the other."""
    results = []
    for seed in options.seeds:
        results.append(measure(options.particles, seed, options.out, options))
        print(json.dumps(results[-1]), flush=True)
    return {"particles": options.particles.name, "symmetry": options.symmetry, "seeds": results}


def main() -> None:
    """Measure every seed, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("particles", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--symmetry", default="C1", help="of the particle, for the errors")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="more arguments of the command")
    parser.add_argument("--truth", type=Path, help="of a simulation: runs are trained at either poses and scored")
    measured(parser, measure_all)


if __name__ == "__main__":
    main()

"""What poses that are off do to a result, and how much of it `cryoformer refine` gives back.

    python benchmarks/rough_poses.py [PARTICLES] [--out DIR] [--truth DIR] [--errors 3:3.5 ...] [--seed 1] [--json FILE]

PARTICLES is a simulated stack whose file has the true poses (without one, 2,000 images of adenylate kinase). For
every D:A of ``--errors`` they are turned by random rotation vectors (a Gaussian of D degrees about each axis) and
shifted (A Angstrom along each), then refined, and compared with the truth: rms and median angle, rms shift, and how
often the true pose lies within one standard deviation of its posterior (68 % wanted). With ``--truth``, the folder of
the simulation, a run is trained at the rough and at the refined poses, and evaluated. Everything goes through the
commands that a user gives. What is done in DIR is not done again.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import cryoformer, measured, scored_run
from heterogeneity import simulate
from scipy.spatial.transform import Rotation

from cryoformer.formats import load_particles
from cryoformer.formats.load import open_particle_file
from cryoformer.particles import Particles

ONE_SIGMA = 1.0


def write_rough(file: Path, degrees: float, angstrom: float, seed: int, folder: Path) -> Path:
    """The particles at poses with errors."""
    listed = open_particle_file(file)
    exact = listed.read()
    generator, count = np.random.default_rng(seed), len(exact)
    turns = Rotation.from_rotvec(np.radians(degrees) * generator.normal(size=(count, 3))).as_matrix()
    shifts = exact.shifts_angstrom + angstrom * generator.normal(size=(count, 2))
    folder.mkdir(parents=True, exist_ok=True)
    return listed.write_posed(replace(exact, rotations=turns @ exact.rotations, shifts_angstrom=shifts), folder)


def distances(found: Particles, exact: Particles) -> dict[str, float]:
    """How far poses are from the truth."""
    turns = Rotation.from_matrix(found.rotations @ np.swapaxes(exact.rotations, 1, 2)).magnitude()
    shifts = found.shifts_angstrom - exact.shifts_angstrom
    return {
        "rms_degrees": float(np.degrees(np.sqrt(np.mean(turns**2)))),
        "median_degrees": float(np.degrees(np.median(turns))),
        "rms_angstrom": float(np.sqrt(np.mean(np.sum(shifts**2, axis=1)))),
    }


def coverage(found: Particles, exact: Particles, posteriors: Path) -> dict[str, float]:
    """Share of coordinates of a turn, and of a shift, that lie within one standard deviation of their posterior."""
    with np.load(posteriors) as read:
        deviation = np.sqrt(np.diagonal(read["covariance"], axis1=1, axis2=2))
    turns = Rotation.from_matrix(exact.rotations @ np.swapaxes(found.rotations, 1, 2)).as_rotvec()
    shifts = exact.shifts_angstrom - found.shifts_angstrom
    within = np.abs(np.concatenate([turns, shifts], axis=1)) < ONE_SIGMA * deviation
    return {
        "turns_within_one_sigma": float(within[:, :3].mean()),
        "shifts_within_one_sigma": float(within[:, 3:].mean()),
    }


def measure(exact: Particles, degrees: float, angstrom: float, options: argparse.Namespace) -> dict[str, Any]:
    """Everything about one size of errors."""
    folder = options.out / f"{degrees:g}_{angstrom:g}"
    rough_file = write_rough(options.particles, degrees, angstrom, options.seed, folder / "rough")
    seconds = cryoformer("refine", rough_file, "--out", folder / "refined")
    record = json.loads((folder / "refined" / "refinement.json").read_text())
    refined_file = folder / "refined" / "particles.star"
    rough, refined = load_particles(rough_file), load_particles(refined_file)
    found: dict[str, Any] = {
        "errors": {"degrees": degrees, "angstrom": angstrom},
        "estimated": {"degrees": record["given_turn_degrees"], "angstrom": record["given_shift_angstrom"]},
        "rough": distances(rough, exact),
        "refined": distances(refined, exact) | coverage(refined, exact, folder / "refined" / "poses.npz"),
        "unknown": {"degrees": record["unknown_turn_degrees"], "angstrom": record["unknown_shift_angstrom"]},
        "poses_changed": record["poses_changed"],
        "seconds": round(seconds, 1),
    }
    if options.truth is not None:
        found["run_at_rough_poses"] = scored_run(rough_file, folder / "run_rough", options.truth)
        found["run_at_refined_poses"] = scored_run(refined_file, folder / "run_refined", options.truth)
    return found


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Every size of errors, one after the other."""
    options.particles = options.particles or simulate(options.out / "simulated") / "particles.star"
    exact = load_particles(options.particles)
    facts = {"images": len(exact), "box": exact.box, "pixel_size_angstrom": exact.pixel_size_angstrom}
    sizes = [tuple(map(float, text.split(":"))) for text in options.errors]
    found = [measure(exact, degrees, angstrom, options) for degrees, angstrom in sizes]
    return {"particles": options.particles.name, **facts, "seed": options.seed, "sizes": found}


def main() -> None:
    """Measure every size of errors, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("particles", type=Path, nargs="?")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--errors", nargs="+", default=["0:0", "1.5:1.75", "3:3.5", "8:7"], metavar="D:A")
    parser.add_argument("--seed", type=int, default=1)
    measured(parser, measure_all)


if __name__ == "__main__":
    main()

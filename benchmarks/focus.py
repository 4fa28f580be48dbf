"""What a focus mask gives where two domains move independently.

    python benchmarks/focus.py [--out DIR] [--images 3000] [--snr 0.1] [--json FILE]

Adenylate kinase (64 x 64 pixels of 2.2 A), whose LID and NMP-binding domain open at coordinates of their own. A run
with default settings (but for parts) looks for all motion; two more are told to look at one domain alone, by a mask
that encloses its atoms in all true states with 8 A to spare, as one would make from docked models. Reported: R2 of
either coordinate as latents predict it (25 neighbours), latent dimensions, flexible share of the box, seconds.
What is done in DIR is not done again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from harness import cryoformer, measured
from scipy.spatial import cKDTree

from cryoformer.assess.heterogeneity import latent_scores
from cryoformer.checkpoint import load_tensors
from cryoformer.files import write_mrc_volume
from cryoformer.imaging.grids import grid_points
from cryoformer.linear.occupancy import soft_edge
from cryoformer.run.run_folder import RunPaths, open_run
from cryoformer.simulate.simulate_config import SimulateConfig
from cryoformer.simulate.stack import simulate
from cryoformer.simulate.structures import adk_models, read_models

BOX, PIXEL_SIZE_ANGSTROM = 64, 2.2
SPARE_ANGSTROM, EDGE_ANGSTROM = 8.0, 7.0


def main() -> None:
    """Simulate, train three times, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--snr", type=float, default=0.1)
    measured(parser, measure)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The run without a focus, and one with a focus on each domain."""
    stack = options.out / "particles"
    if not stack.exists():
        simulate(
            SimulateConfig(
                models=adk_models(),
                out=stack,
                images=options.images,
                box=BOX,
                pixel_size_angstrom=PIXEL_SIZE_ANGSTROM,
                snr=options.snr,
                seed=1,
                states=5,
                independent_domains=True,
            )
        )
    domains = json.loads((stack / "simulation.json").read_text())["coordinates"]
    runs: dict[str, list[str]] = {"everything": []}
    for number, residues in enumerate(domains):
        mask = options.out / f"focus_{number + 1}.mrc"
        write_mrc_volume(mask, domain_mask(stack, residues), PIXEL_SIZE_ANGSTROM)
        runs[f"focus on {residues}"] = ["--focus", str(mask)]
    found = [
        {"looked_at": name, **one_run(stack, options.out / f"run_{number}", arguments)}
        for number, (name, arguments) in enumerate(runs.items())
    ]
    return {"images": options.images, "box": BOX, "snr": options.snr, "domains": domains, "runs": found}


def domain_mask(stack: Path, residues: str) -> np.ndarray:
    """Soft mask of a domain's atoms over all true states."""
    atoms = []
    for path in sorted((stack / "models").glob("*.cif")):
        model = read_models([path])[0]
        inside = np.array([_within(residue.number, residues) for residue in model.residues])
        atoms.append(model.positions_angstrom[inside[model.atom_residue]])
    points = grid_points(BOX, PIXEL_SIZE_ANGSTROM).numpy()
    near = cKDTree(np.concatenate(atoms)).query(points)[0] <= SPARE_ANGSTROM
    return soft_edge(near.reshape(BOX, BOX, BOX), PIXEL_SIZE_ANGSTROM, 0.0, EDGE_ANGSTROM)


def _within(number: int, residues: str) -> bool:
    """Whether a residue is in ``A:118-160+166-170``."""
    ranges = (part.split("-") for part in residues.split(":")[1].split("+"))
    return any(int(part[0]) <= number <= int(part[-1]) for part in ranges)


def one_run(stack: Path, out: Path, arguments: list[str]) -> dict[str, Any]:
    """R2 of both coordinates, dimensions, and what was decoded."""
    seconds = None
    if not (out / "latents.npz").exists():
        command = ["train", stack / "particles.star", "--out", out, "--set", "parts=0", *arguments]
        seconds = round(cryoformer(*command), 1)
    truth, run = np.load(stack / "truth.npz"), open_run(out)
    r2 = [latent_scores(run.latents, column).knn_r2 for column in truth["coordinates"].T]
    subspace = load_tensors(RunPaths(out).checkpoint("subspace"))[0]
    return {
        "r2": [round(float(value), 4) for value in r2],
        "dimensions": run.latents.shape[1],
        "flexible": round(float(subspace["flexible"].mean()), 4),
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()

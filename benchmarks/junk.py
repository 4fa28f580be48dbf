"""How well a run's outlier score finds what is no particle of the molecule.

    python benchmarks/junk.py [--out DIR] [--images 3000] [--snr 0.1] [--share 0.15] [--json FILE]

Adenylate kinase as it opens (64 x 64 pixels of 2.2 A), mixed in equal shares with

    foreign     a chain of as many atoms and the same radius of gyration, folded at random: another molecule
    noise       no molecule at all
    off_centre  the molecule itself, 8 to 14 pixels off along one axis or both, which the file does not say

all at the same noise. Poses are the true ones, those of the other molecule in its own frame, so that it is a second
state to a run. The run is made with default settings, but for parts, and knows
nothing of what is what. Reported: ROC AUC of the score for all junk and for each kind, what `select
--drop-outliers` drops, and AUC of simpler statistics: chi squared of the residual, correlation with the projection,
contrast. What is done in DIR is not done again.
"""

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import torch
from harness import cryoformer, measured
from sklearn.metrics import roc_auc_score

from cryoformer.checkpoint import load_tensors
from cryoformer.formats import load_particles
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.images.fourier_images import SliceProjector
from cryoformer.images.streamed import prepare_images
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.imaging.grids import crop_volume
from cryoformer.imaging.slices import SlicePlane
from cryoformer.particles import Particles
from cryoformer.run.outlier_score import DROP_ABOVE
from cryoformer.run.run_folder import RunPaths, open_run
from cryoformer.simulate.simulate_config import SimulateConfig
from cryoformer.simulate.stack import simulate
from cryoformer.simulate.structures import AtomicModel, adk_models, read_models, write_model
from cryoformer.training.train_config import load_config

BOX, PIXEL_SIZE_ANGSTROM = 64, 2.2
OFF_CENTRE_PIXELS = (8, 14)
KINDS = ("particle", "foreign", "noise", "off_centre")
STEP_ANGSTROM, APART_ANGSTROM = 3.8, 4.0


def main() -> None:
    """Mix, train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--snr", type=float, default=0.1)
    parser.add_argument("--share", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=1)
    measured(parser, measure)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything about one mixture."""
    mixed = options.out / "mixed"
    particles = mixed / "particles.star"
    if not particles.exists():
        mix(options, mixed)
    kind = np.load(mixed / "kind.npy")
    run = options.out / "run"
    if not (run / "latents.npz").exists():
        cryoformer("train", particles, "--out", run, "--set", "parts=0")
    return {
        "images": len(kind),
        "box": BOX,
        "snr": options.snr,
        "junk": {name: int((kind == number).sum()) for number, name in enumerate(KINDS) if number},
        "seed": options.seed,
        **scores(run, kind),
    }


def mix(options: argparse.Namespace, out: Path) -> None:
    """Particles and junk as one stack, in random order; ``kind.npy`` says what is what."""
    rng = np.random.default_rng(options.seed)
    junk = round(options.share * options.images / 3)
    foreign_model = out / "foreign.cif"
    out.mkdir(parents=True, exist_ok=True)
    model = read_models(adk_models())[0]
    write_model(foreign_model, model, folded_at_random(model, rng))
    made = {
        "particle": made_clean(adk_models(), out / "clean", options.images - 3 * junk, options.seed),
        "foreign": made_clean((foreign_model,), out / "clean_foreign", junk, options.seed + 1),
        # No molecule at all: its pixels are thrown away, its defocus and pose are as good as any.
        "noise": made_clean(adk_models()[:1], out / "clean_noise", junk, options.seed + 2),
        "off_centre": made_clean(adk_models(), out / "clean_off", 8 * junk, options.seed + 3, OFF_CENTRE_PIXELS[1]),
    }
    far = np.abs(made["off_centre"].shifts_angstrom).max(axis=1) / PIXEL_SIZE_ANGSTROM > OFF_CENTRE_PIXELS[0]
    made["off_centre"] = made["off_centre"].subset(np.flatnonzero(far)[:junk])
    record = json.loads((out / "clean" / "simulation.json").read_text())
    noise_std = record["clean_std"] / np.sqrt(options.snr)
    images = {name: particles.images(np.arange(len(particles))) for name, particles in made.items()}
    images["noise"] = np.zeros_like(images["noise"])
    kind = np.repeat(np.arange(4), [len(images[name]) for name in KINDS])
    order = rng.permutation(len(kind))
    stack = np.concatenate([images[name] for name in KINDS])[order]
    stack += noise_std * rng.standard_normal(stack.shape, dtype=np.float32)
    with mrcfile.new(out / "particles.mrcs", overwrite=True) as file:
        file.set_data(stack.astype(np.float32))
        file.voxel_size = PIXEL_SIZE_ANGSTROM
    shifts = {name: particles.shifts_angstrom for name, particles in made.items()}
    shifts["off_centre"] = rng.uniform(-3, 3, (junk, 2)) * PIXEL_SIZE_ANGSTROM
    np.save(out / "kind.npy", kind[order])
    write_particles_star(
        out / "particles.star",
        [f"{number + 1:06d}@particles.mrcs" for number in range(len(kind))],
        np.concatenate([made[name].rotations for name in KINDS])[order],
        np.concatenate([shifts[name] for name in KINDS])[order],
        joined_ctf([made[name] for name in KINDS], order),
        PIXEL_SIZE_ANGSTROM,
        BOX,
        half_set=np.arange(len(kind)) % 2 + 1,
    )


def made_clean(models: tuple[Path, ...], out: Path, count: int, seed: int, shift: float = 3.0) -> Particles:
    """Images without noise."""
    config = SimulateConfig(
        models=models, out=out, images=count, box=BOX, pixel_size_angstrom=PIXEL_SIZE_ANGSTROM, snr=np.inf, seed=seed,
        max_shift_pixels=shift,
    )  # fmt: skip
    return load_particles(simulate(config) / "particles.star")


def joined_ctf(particles: list[Particles], order: np.ndarray) -> CTFParameters:
    """CTFs of one list after the other, in this order."""
    columns = {
        field.name: torch.cat([getattr(some.ctf, field.name) for some in particles])[torch.from_numpy(order)]
        for field in fields(CTFParameters)
    }
    return CTFParameters(**columns)


def folded_at_random(model: AtomicModel, rng: np.random.Generator) -> np.ndarray:
    """The residues along another chain: a random walk of the same radius of gyration that keeps apart from itself."""
    atoms, residues = model.positions_angstrom, len(model.residues)
    centres = np.stack([atoms[model.atom_residue == residue].mean(axis=0) for residue in range(residues)])
    radius = np.sqrt(5 / 3 * ((centres - centres.mean(axis=0)) ** 2).sum(axis=1).mean())
    chain = np.zeros((residues, 3))
    for residue in range(1, residues):
        # Of many steps inside the ball, the first that keeps clear of the chain so far, or the clearest.
        steps = rng.normal(size=(200, 3))
        ends = chain[residue - 1] + STEP_ANGSTROM * steps / np.linalg.norm(steps, axis=1, keepdims=True)
        ends = ends[np.linalg.norm(ends, axis=1) < radius]
        clear = np.linalg.norm(ends[:, None] - chain[None, :residue], axis=2).min(axis=1)
        chain[residue] = ends[np.argmax(np.minimum(clear, APART_ANGSTROM))]
    return (chain - centres)[model.atom_residue] + atoms


def scores(run: Path, kind: np.ndarray) -> dict[str, Any]:
    """AUC of the outlier score and of simpler ones, and what is dropped by default."""
    score = open_run(run).outlier_score
    assert score is not None
    dropped = score > DROP_ABOVE
    return {
        "auc": auc(score, kind),
        "dropped_by_default": {name: float(dropped[kind == number].mean()) for number, name in enumerate(KINDS)},
        "score_of_particles": np.percentile(score[kind == 0], [1, 50, 99]).round(2).tolist(),
        "auc_of_simpler": {name: auc(values, kind) for name, values in simpler(run).items()},
    }


def simpler(run: Path) -> dict[str, np.ndarray]:
    """What one could take instead, with the consensus map: the larger, the worse."""
    opened = open_run(run)
    particles = load_particles(opened.config["particles"])
    settings = load_config(overrides=opened.config["settings"])
    consensus = load_tensors(RunPaths(run).checkpoint("consensus"))[0]
    with tempfile.TemporaryDirectory() as cache:
        images = prepare_images(particles, Path(cache), settings).with_noise(consensus["noise_power"])
    low = images.crop(48)
    plane = SlicePlane.of_box(48)
    projector = SliceProjector(crop_volume(consensus["volume"], 48))
    chi, correlation = [], []
    for _, some in low.batches(low.every()):
        deviation = low.slice_deviation(plane)
        seen = plane.take(some.coefficients) / deviation
        shown = plane.take(projector.project(some.views()) * some.ctf) / deviation
        chi.append((seen - shown).abs().square().sum(dim=1))
        norms = seen.norm(dim=1) * shown.norm(dim=1)
        correlation.append(-(seen * shown.conj()).real.sum(dim=1) / norms)
    return {
        "chi_squared": torch.cat(chi).numpy(),
        "correlation": torch.cat(correlation).numpy(),
        "contrast": -opened.contrast,
    }


def auc(score: np.ndarray, kind: np.ndarray) -> dict[str, float]:
    """For all junk, and for each kind against the particles."""
    found = {"all": float(roc_auc_score(kind > 0, score))}
    for number, name in enumerate(KINDS[1:], start=1):
        some = (kind == 0) | (kind == number)
        found[name] = float(roc_auc_score(kind[some] > 0, score[some]))
    return {name: round(value, 4) for name, value in found.items()}


if __name__ == "__main__":
    main()

"""Reconstruction from poses that are 45 to 90 degrees off (paper, appendix E and figure 15), shell by shell.

    python benchmarks/far_poses.py [PARTICLES --truth DIR] [--out DIR] [--minutes 5] [--methods ...]
        [--seed 1] [--json FILE]

PARTICLES is a simulated stack whose file has the true poses, and DIR its truth (without them, 2,000 images of
adenylate kinase). Every rotation is turned about a random axis by an angle that is uniform between 45 and 90 degrees;
shifts stay, since ResMFN has none. From this file, each with the same time limit and threads (OMP_NUM_THREADS):

    cone       refine --search cone, then train for the time that is left
    encoder    the paper's way: train --preset paper with an orientation encoder
    resmfn     the baseline of that name
    given      back-projection at the poses given
    exact      train at the true poses, for what could be reached

Scores are the paper's: FSC of three particles of every state with their true states, under the molecule's mask. What a
method finds may be turned, shifted and mirrored as a whole, so its mean density is laid on the true one first.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import cryoformer, measured
from heterogeneity import simulate
from pose_comparison import best_frame, degrees_between
from scipy.ndimage import map_coordinates, spline_filter
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from cryoformer.assess.evaluate import truth_masks
from cryoformer.assess.ground_truth import GroundTruth, load_truth
from cryoformer.assess.results import open_result
from cryoformer.decode.volume_source import VolumeSource
from cryoformer.formats.load import open_particle_file
from cryoformer.imaging.grids import crop_volume, enlarge_volume, grid_points
from cryoformer.poses.map_alignment import Alignment, align_maps
from cryoformer_experiments.samples import sample_particles, sampled_fsc

METHODS = ("cone", "encoder", "resmfn", "given", "exact")
LEAST_DEGREES, MOST_DEGREES = 45.0, 90.0
ALIGNED_BOX = 32


def write_far(file: Path, seed: int, folder: Path) -> Path:
    """The particles, every rotation turned by 45 to 90 degrees about an axis of its own."""
    listed = open_particle_file(file)
    exact, generator = listed.read(), np.random.default_rng(seed)
    axes = generator.normal(size=(len(exact), 3))
    angles = np.radians(generator.uniform(LEAST_DEGREES, MOST_DEGREES, size=(len(exact), 1)))
    turns = Rotation.from_rotvec(angles * axes / np.linalg.norm(axes, axis=1, keepdims=True)).as_matrix()
    folder.mkdir(parents=True, exist_ok=True)
    return listed.write_posed(replace(exact, rotations=turns @ exact.rotations), folder)


def fit(method: str, exact: Path, far: Path, folder: Path, options: argparse.Namespace) -> tuple[Path, Path | None]:
    """The folder of a method's result, and the particle file or array of the rotations that it found."""
    limit, seed = f"{options.minutes:g}", ("--seed", str(options.seed))
    if method == "cone":
        began = time.monotonic()
        cryoformer("refine", far, "--search", "cone", "--out", folder / "refined", *seed)
        left = max(0.5, options.minutes - (time.monotonic() - began) / 60)
        refined = folder / "refined" / far.name
        cryoformer("train", refined, "--out", folder / "fit", "--max-minutes", f"{left:.2f}", "--set", "parts=0", *seed)
        return folder / "fit", refined
    if method == "encoder":
        settings = [text for each in ("model.orientation=encoder", *options.encoder) for text in ("--set", each)]
        cryoformer("train", far, "--out", folder / "fit", "--max-minutes", limit, "--preset", "paper", *settings, *seed)
        return folder / "fit", folder / "fit" / "poses.npz"
    if method == "resmfn":
        cryoformer("baseline", "resmfn", far, "--out", folder / "fit", "--max-minutes", limit, *seed)
        return folder / "fit", folder / "fit" / "poses.npz"
    if method == "given":
        cryoformer("baseline", "homogeneous", far, "--out", folder / "fit", *seed)
        return folder / "fit", far
    cryoformer("train", exact, "--out", folder / "fit", "--max-minutes", limit, "--set", "parts=0", *seed)
    return folder / "fit", None


class LaidOn:
    """Volumes of a method laid on the truth by one rotation, shift and, it may be, reflection."""

    def __init__(self, source: VolumeSource, truth: GroundTruth, mask: np.ndarray) -> None:
        rows = sample_particles(truth.state_of_image)
        box = self.box = truth.box
        mean = np.mean(list(source.particle_volumes(rows)), axis=0)
        true = np.mean([truth.state(int(state)) for state in truth.state_of_image[rows]], axis=0)
        low = min(ALIGNED_BOX, box)
        coarse = align_maps(*(crop_volume(torch.from_numpy(each).float(), low) for each in (true, mean)))
        self.coarse: Alignment = replace(coarse, shift=coarse.shift * (box / low))
        points = grid_points(box, 1.0).numpy().astype(np.float64)
        inside = mask.reshape(-1) > 0.5
        wanted, fine = true.reshape(-1)[inside], spline_filter(_finer(mean))

        def loss(x: np.ndarray) -> float:
            return -float(np.corrcoef(self._sampled(fine, points[inside], x), wanted)[0, 1])

        found = minimize(loss, np.zeros(6), method="Powell", options={"xtol": 1e-3, "ftol": 1e-7})
        self.move, self.correlation, self.points = found.x, -float(found.fun), points

    def volumes(self, volumes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Each of them, as the mean was laid."""
        for volume in volumes:
            laid = self._sampled(spline_filter(_finer(volume)), self.points, self.move)
            yield laid.reshape(volume.shape).astype(np.float32)

    def _sampled(self, fine: np.ndarray, points: np.ndarray, move: np.ndarray) -> np.ndarray:
        """Values at M R x + s, a little farther by ``move``: (turn in radians / 10, shift in pixels)."""
        places = points @ (Rotation.from_rotvec(move[:3] / 10).as_matrix() @ self.coarse.rotation).T
        if self.coarse.mirrored:
            places = places * (1, 1, -1)
        places = places + self.coarse.shift + move[3:]
        return map_coordinates(fine, (2 * places + self.box).T[::-1], order=3, prefilter=False)


def _finer(volume: np.ndarray) -> np.ndarray:
    """The volume at half the pixel, by its Fourier transform: what is interpolated is smooth then."""
    return 8 * enlarge_volume(torch.from_numpy(volume).float(), 2 * len(volume)).numpy()


def pose_errors(found: Path | None, exact: Path) -> dict[str, float]:
    """Of rotations: as they are, and after one global rotation for the better hand."""
    if found is None:
        return {}
    known = open_particle_file(exact).read().rotations
    if found.suffix == ".npz":
        with np.load(found) as read:
            rotations = read["rotations"]
    else:
        rotations = open_particle_file(found).read().rotations
    _, framed, mirrored = best_frame(rotations, known, np.eye(3)[None])
    return {
        "median_degrees_as_they_are": float(np.median(degrees_between(rotations, known, np.eye(3)[None]))),
        "median_degrees": float(np.median(framed)),
        "within_10_degrees": float(np.mean(framed < 10)),
        "mirrored": mirrored,
    }


def measure(method: str, exact: Path, far: Path, truth: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everything about one method."""
    folder = options.out / method
    record = folder / "measured.json"
    if not record.exists():
        folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        paths = fit(method, exact, far, folder, options)
        facts = {"seconds": round(time.monotonic() - began, 1), "paths": [str(path) for path in paths if path]}
        record.write_text(json.dumps(facts))
    facts = json.loads(record.read_text())
    result = open_result(Path(facts["paths"][0]), method)
    known = load_truth(truth, result.box, result.pixel_size_angstrom, result.particles)
    masks, source = truth_masks(known), result.sources[0]
    laid = LaidOn(source, known, masks["molecule"])
    moved = VolumeSource(method, source.latents, lambda latents: laid.volumes(source.decode(latents)))
    scores = sampled_fsc(moved, known, masks)
    found = Path(facts["paths"][1]) if len(facts["paths"]) > 1 else None
    return {
        "seconds": facts["seconds"],
        "poses": pose_errors(found, exact),
        "correlation_with_the_true_mean": laid.correlation,
        **{mask: _rounded(scores[mask]) for mask in masks},
    }


def _rounded(score: dict[str, Any]) -> dict[str, Any]:
    return {
        "fsc": [round(value, 4) for value in score["fsc"]],
        "resolution_angstrom": round(score["resolution_angstrom"], 2),
        "auc": round(score["auc"], 4),
    }


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Every method, one after the other."""
    if options.particles is None:
        options.truth = options.out / "simulated"
        if not options.truth.exists():
            simulate(options.truth)
        options.particles = options.truth / "particles.star"
    far = write_far(options.particles, options.seed, options.out / "far")
    exact = open_particle_file(options.particles).read()
    facts = {"images": len(exact), "box": exact.box, "degrees": [LEAST_DEGREES, MOST_DEGREES]}
    facts |= {"minutes": options.minutes, "seed": options.seed, "particles": options.particles.parent.name}
    methods: dict[str, Any] = {}
    for method in options.methods:
        methods[method] = measure(method, options.particles, far, options.truth, options)
        print(method, json.dumps(methods[method]), flush=True)
    return {**facts, "methods": methods}


def main() -> None:
    """Measure every method, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("particles", type=Path, nargs="?")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0, help="for every method")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--encoder", nargs="*", default=[], help="more settings of the paper's way, KEY=VALUE")
    parser.add_argument("--seed", type=int, default=1)
    measured(parser, measure_all)


if __name__ == "__main__":
    main()

"""Free energies whose truth is known: how often intervals hold it, directly and by way of images.

    python benchmarks/free_energy.py [--laws flat] [--sets 24] [--bootstraps 100]
    python benchmarks/free_energy.py --plane [--sets 12] [--bootstraps 60]
    python benchmarks/free_energy.py --run RUN --truth TRUTH --cut 0.52 --law 0.65
    python benchmarks/free_energy.py --run RUN --truth TRUTH --plane

Direct: places of 1,500 particles are drawn from a known free energy, and estimates of them with known Gaussian errors.
Each set is deconvolved and its 95 % intervals compared with the truth: the population left of the pass, both barriers,
and F place by place (where it is below 4 kT). On a plane: four wells of 40, 30, 20 and 10 % of 1,200 particles, whose
errors are correlated. Whole way: `free-energy` on a run of simulated images. The truth's `t` of the particles places
the cut on the path (where the typical particle of that t lies), and says how many lie left of it. On the plane of a
stack with two motions, the share of the particles in each quarter of the two coordinates. Written to
benchmarks/results/free_energy.json.
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cryoformer.states.basins import LEVELS
from cryoformer.states.deconvolution import PlaceLikelihood
from cryoformer.states.free_energy import RESOLUTION, FreeEnergy, free_energy, population_of, smoothing

RESULT = Path("benchmarks/results/free_energy.json")
PLACES, FINE, PARTICLES, ERROR = 48, 16, 1500, 0.08
BELOW = 4.0
# Wells as (share, middle, deviation), and a flat share.
LAWS: dict[str, tuple[list[tuple[float, float, float]], float]] = {
    "two wells": ([(0.65, 0.3, 0.08), (0.35, 0.72, 0.06)], 0.0),
    "shallow": ([(0.6, 0.35, 0.12), (0.4, 0.7, 0.1)], 0.1),
    "flat": ([], 1.0),
}


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=24)
    parser.add_argument("--bootstraps", type=int, default=100)
    parser.add_argument("--laws", nargs="+", choices=list(LAWS), default=list(LAWS))
    parser.add_argument("--plane", action="store_true")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument(
        "--cut", type=float, nargs="+", default=[0.25, 0.5, 0.75], help="t at which shares are compared"
    )
    parser.add_argument("--law", type=float, nargs="+", help="the law's own share left of each cut")
    parser.add_argument("--name", default="images")
    arguments = parser.parse_args()
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if arguments.plane and arguments.run is None:
        result["plane"] = coverage_on_plane(arguments.sets, arguments.bootstraps)
        print(json.dumps(result["plane"], indent=1))
    elif arguments.plane:
        result["plane of " + arguments.name] = quarters(arguments.run, arguments.truth)
        print(json.dumps(result["plane of " + arguments.name], indent=1))
    elif arguments.run is None:
        direct = {name: coverage(name, arguments.sets, arguments.bootstraps) for name in arguments.laws}
        result["direct"] = result.get("direct", {}) | direct
        result["direct"] |= {"particles": PARTICLES, "error": ERROR, "bootstraps": arguments.bootstraps}
    else:
        found = whole_way(arguments.run, arguments.truth, arguments.cut, arguments.law)
        result[arguments.name] = found
        print(json.dumps(found, indent=1))
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def law(name: str, along: np.ndarray) -> np.ndarray:
    """Shares at these places."""
    wells, flat = LAWS[name]
    density = flat + sum(share * np.exp(-0.5 * ((along - at) / wide) ** 2) / wide for share, at, wide in wells)
    return np.asarray(density / density.sum() if np.ndim(density) else np.full(len(along), 1.0 / len(along)))


def one_set(name: str, seed: int, bootstraps: int) -> FreeEnergy:
    """Draw particles and estimates, and deconvolve them."""
    rng = np.random.default_rng((seed, 77))
    fine = (np.arange(PLACES * FINE) + 0.5) / (PLACES * FINE)
    errors = ERROR * np.exp(0.3 * rng.standard_normal(PARTICLES))
    estimates = rng.choice(fine, PARTICLES, p=law(name, fine)) + errors * rng.standard_normal(PARTICLES)
    along = (np.arange(PLACES) + 0.5) / PLACES
    logs = -0.5 * ((estimates[:, None] - along) / errors[:, None]) ** 2
    return free_energy(PlaceLikelihood.from_logarithms(logs, np.ones(PLACES)), bootstraps=bootstraps, seed=seed)


def as_told(shares: np.ndarray, found: FreeEnergy) -> np.ndarray:
    """F of known shares at the resolution that this free energy is told at."""
    return np.asarray(-np.log(smoothing(found.positions, found.sizes, RESOLUTION * found.uncertainty) @ shares))


def coverage(name: str, sets: int, bootstraps: int) -> dict[str, Any]:
    """How often the intervals hold the truth, with the mean error and its scatter."""
    fine = (np.arange(PLACES * FINE) + 0.5) / (PLACES * FINE)
    shares = law(name, fine).reshape(PLACES, FINE).sum(axis=1)
    # The pass between the two wells, and the wells; of a flat law, the middle and the quarters.
    left, right = (0.3, 0.72) if name == "two wells" else (0.35, 0.7) if name == "shallow" else (0.25, 0.75)
    a, b = int(left * PLACES), int(right * PLACES)
    names = ("population", "barrier over left", "barrier over right")
    held: dict[str, list[bool]] = {key: [] for key in names}
    errors: dict[str, list[float]] = {key: [] for key in names}
    truths: dict[str, list[float]] = {key: [] for key in names}
    places, wells = [], []
    for seed in range(sets):
        found = one_set(name, seed, bootstraps)
        energy = as_told(shares, found)
        top = a + int(energy[a:b].argmax()) if name != "flat" else PLACES // 2
        true = {
            "population": float(shares[:top].sum()),
            "barrier over left": float(energy[top] - energy[a]),
            "barrier over right": float(energy[top] - energy[b]),
        }
        estimates = {"population": population_of(found, np.arange(PLACES) < top)}
        values = {
            "population": (estimates["population"].value, estimates["population"].low, estimates["population"].high)
        }
        for key, low in (("barrier over left", a), ("barrier over right", b)):
            samples = found.samples[:, top] - found.samples[:, low]
            values[key] = (float(found.energy[top] - found.energy[low]), *np.percentile(samples, LEVELS))
        for key, (value, low, high) in values.items():
            held[key].append(low <= true[key] <= high)
            errors[key].append(value - true[key])
            truths[key].append(true[key])
        # F has no zero of its own: laid on the truth where particles are.
        shift = float((energy - found.energy) @ shares)
        inside = (found.low + shift <= energy) & (energy <= found.high + shift)
        places.append(float(inside[energy - energy.min() < BELOW].mean()))
        wells.append(len(found.wells))
        print(name, seed, values, len(found.wells), flush=True)
    return {
        "truth": {key: round(float(np.mean(each)), 3) for key, each in truths.items()},
        "held": {key: round(float(np.mean(each)), 3) for key, each in held.items()},
        "mean error": {key: round(float(np.mean(each)), 3) for key, each in errors.items()},
        "scatter": {key: round(float(np.std(each)), 3) for key, each in errors.items()},
        "held place by place": round(float(np.mean(places)), 3),
        "wells found": {str(count): wells.count(count) for count in sorted(set(wells))},
        "sets": sets,
    }


CENTRES = np.array([[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]])
FOUR, WIDE, SIDE = np.array([0.4, 0.3, 0.2, 0.1]), 0.07, 14


def one_plane(seed: int, bootstraps: int) -> FreeEnergy:
    """Draw particles of four wells, known with errors of 0.08 and 0.05 that may be correlated, and deconvolve them."""
    rng = np.random.default_rng((seed, 78))
    true = CENTRES[rng.choice(4, 1200, p=FOUR)] + WIDE * rng.standard_normal((1200, 2))
    covariance = np.tile(np.diag([0.08**2, 0.05**2]), (1200, 1, 1))
    covariance[:, 0, 1] = covariance[:, 1, 0] = 0.004 * rng.uniform(-0.6, 0.6, 1200)
    estimates = true + np.einsum("nij,nj->ni", np.linalg.cholesky(covariance), rng.standard_normal((1200, 2)))
    axis = np.linspace(0, 1, SIDE)
    away = estimates[:, None] - np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    logs = -0.5 * np.einsum("nmi,nij,nmj->nm", away, np.linalg.inv(covariance), away)
    images = PlaceLikelihood.from_logarithms(logs, np.ones(SIDE**2), (SIDE, SIDE))
    return free_energy(images, bootstraps=bootstraps, seed=seed)


def coverage_on_plane(sets: int, bootstraps: int) -> dict[str, Any]:
    """How often the intervals hold populations of the wells, and F halfway between two wells over either of them."""
    shares, heights, wells = [], [], []
    for seed in range(sets):
        found = one_plane(seed, bootstraps)
        places = found.positions
        density = np.exp(-0.5 * np.square((places[:, None] - CENTRES) / WIDE).sum(axis=2)) @ FOUR * found.sizes
        energy = as_told(density, found) + np.log(found.sizes)
        quarter = 2 * (places[:, 0] > 0.5) + (places[:, 1] > 0.5)
        for number, share in enumerate(FOUR):
            population = population_of(found, quarter == number)
            shares.append((population.low <= share <= population.high, population.value - share))
        nearest = [int(np.linalg.norm(places - centre, axis=1).argmin()) for centre in CENTRES]
        for pair in ((0, 1), (0, 2), (1, 3), (2, 3)):
            top = int(np.linalg.norm(places - CENTRES[list(pair)].mean(axis=0), axis=1).argmin())
            for low in (nearest[number] for number in pair):
                samples = np.percentile(found.samples[:, top] - found.samples[:, low], LEVELS)
                true = energy[top] - energy[low]
                heights.append((samples[0] <= true <= samples[1], found.energy[top] - found.energy[low] - true))
        wells.append(len(found.wells))
        print(seed, wells[-1], [round(float(well.population.value), 3) for well in found.wells], flush=True)
    table = {"populations": np.array(shares), "barriers": np.array(heights)}
    return {
        "held": {name: round(float(values[:, 0].mean()), 3) for name, values in table.items()},
        "mean error": {name: round(float(values[:, 1].mean()), 3) for name, values in table.items()},
        "scatter": {name: round(float(values[:, 1].std()), 3) for name, values in table.items()},
        "wells found": {str(count): wells.count(count) for count in sorted(set(wells))},
        "sets": sets,
        "bootstraps": bootstraps,
    }


def quarters(run: Path, truth: Path) -> dict[str, Any]:
    """The plane of a run on two independent motions: wells, and the share of the particles in each quarter of it.

    A motion's half is where the typical particle of that half lies; coordinates of the run may be turned.
    """
    from cryoformer.progress import RunLog
    from cryoformer.run.images import images_of_run
    from cryoformer.run.run_folder import RunPaths, open_run
    from cryoformer.states.free_energy_files import find_free_energy, in_words, on_plane

    started, finished = time.perf_counter(), open_run(run)
    coordinates = np.load(truth / "truth.npz")["coordinates"][RunPaths(run).read_rows(len(finished.latents))]
    upper = coordinates > 0.5
    number = 2 * upper[:, 0] + upper[:, 1]
    with RunLog(None) as log, images_of_run(finished, focused=True) as (images, *_):
        places, unseen, found = find_free_energy(finished, on_plane((1, 2)), images, log)
    posterior = unseen.likelihood * found.populations
    posterior /= posterior.sum(axis=1, keepdims=True)
    # Of every place, the quarter that most of the particles there are of.
    of_place = np.stack([posterior[number == quarter].sum(axis=0) for quarter in range(4)]).argmax(axis=0)
    rows = []
    for quarter in range(4):
        share = population_of(found, of_place == quarter)
        rows.append({"true": round(float((number == quarter).mean()), 3)}
                    | {key: round(value, 3) for key, value in vars(share).items()})  # fmt: skip
    return {
        "particles": len(number),
        "quarters": rows,
        "words": in_words(found, places.name),
        "uncertainty of a particle": found.uncertainty.round(3).tolist(),
        "seconds": round(time.perf_counter() - started),
    }


def whole_way(run: Path, truth: Path, cuts: list[float], laws: list[float] | None) -> dict[str, Any]:
    """`free-energy` on a run, and the shares of the particles left of some t."""
    from cryoformer.progress import RunLog
    from cryoformer.run.images import images_of_run
    from cryoformer.run.run_folder import RunPaths, open_run
    from cryoformer.states.free_energy_files import find_free_energy, in_words, on_line
    from cryoformer.states.path import path_line

    started, finished = time.perf_counter(), open_run(run)
    t = np.load(truth / "truth.npz")["t"][RunPaths(run).read_rows(len(finished.latents))]
    line, name = path_line(finished.latents)
    with RunLog(None) as log, images_of_run(finished, focused=True) as (images, *_):
        _, unseen, found = find_free_energy(finished, on_line(line, name), images, log)
    posterior = unseen.likelihood * found.populations
    mean = posterior @ found.along / posterior.sum(axis=1)
    if np.corrcoef(mean, t)[0, 1] < 0:
        t = 1.0 - t
        cuts, laws = [1.0 - cut for cut in cuts], None if laws is None else [1.0 - share for share in laws]
    edges = np.quantile(t, np.linspace(0, 1, 31))
    middles = np.array([np.median(mean[(t >= a) & (t <= b)]) for a, b in pairwise(edges)])
    rows = []
    for number, cut in enumerate(cuts):
        place = float(np.interp(cut, (edges[1:] + edges[:-1]) / 2, middles))
        share = population_of(found, found.along < place)
        row = {"t": round(cut, 3), "place": round(place, 3), "true share": round(float((t < cut).mean()), 3)}
        row |= {"law": laws[number]} if laws else {}
        rows.append(row | {key: round(value, 3) for key, value in vars(share).items()})
    histogram = np.histogram(mean, bins=np.concatenate([[0.0], np.cumsum(found.sizes)]))[0] / len(mean)
    return {
        "particles": len(t),
        "shares": rows,
        "words": in_words(found, name),
        "uncertainty of a particle": round(float(found.uncertainty[0]), 3),
        "range of F, kT": round(float(np.ptp(found.energy)), 2),
        "range of -log of a histogram of means, kT": round(float(np.ptp(-np.log(np.maximum(histogram, 1e-4)))), 2),
        "F": found.energy.round(2).tolist(),
        "low": found.low.round(2).tolist(),
        "high": found.high.round(2).tolist(),
        "along": found.along.round(3).tolist(),
        "seconds": round(time.perf_counter() - started),
    }


if __name__ == "__main__":
    main()

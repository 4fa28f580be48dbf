"""Particles of a run by their place in its latent space, as rows of the file that the run was trained on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryoformer.assess.latent_space import principal_coordinates
from cryoformer.errors import InputError
from cryoformer.files import write_text
from cryoformer.formats.choose import choose_rows, read_indices
from cryoformer.formats.particle_file import ParticleFile
from cryoformer.formats.particle_input import reopen
from cryoformer.particles.repeats import reference_numbers
from cryoformer.run.run_folder import RunPaths, open_run


@dataclass(frozen=True)
class LatentCriteria:
    """What is asked of a particle's latents; all that is given must hold.

    Attributes:
        clusters: any of these clusters, counted from 1 as the report and ``analysis/clusters`` count them.
        latent_box: text ``min1,max1,min2,max2,...``: bounds of the first principal coordinates, empty for none.
        name: a selection saved as ``selections/NAME.npy`` in the folder of the run.
        outliers_above: outlier score above which particles are left out; None: none are.
    """

    clusters: tuple[int, ...] = ()
    latent_box: str | None = None
    name: str | None = None
    outliers_above: float | None = None


def select_of_run(
    path: Path,
    criteria: LatentCriteria,
    *,
    ind: Path | None = None,
    random: int | None = None,
    half: int | None = None,
    seed: int = 0,
    particles: Path | None = None,
    datadir: Path | None = None,
) -> tuple[ParticleFile, Int[np.ndarray, " m"]]:
    """The particle file of a run, and rows of it; ``particles`` and ``datadir`` say where they are now.

    ``ind`` and what is drawn count the particles of the run, which may have been trained on some rows of the file.

    Raises:
        InputError: no finished run, a criterion that does not fit it, or no particle left.
    """
    run = open_run(path)
    count = len(run.latents)
    file, in_file = reopen(path, run.config, particles, datadir).file, RunPaths(path).read_rows(count)
    halves, images = None, None
    if half is not None:
        halves = None if file.half_set is None else file.half_set[in_file]
        images = reference_numbers(file.references.subset(in_file))
    keep = np.zeros(count, dtype=bool)
    keep[choose_rows(count, halves, ind=ind, half=half, seed=seed, images=images)] = True
    if criteria.clusters:
        labels, _ = _clusters(path, count)
        keep &= np.isin(labels, _known_clusters(path, labels, criteria.clusters))
    if criteria.latent_box is not None:
        keep &= inside_box(principal_coordinates(run.latents).coordinates, criteria.latent_box)
    if criteria.name is not None:
        keep &= np.isin(np.arange(count), _named(path, count, criteria.name))
    if criteria.outliers_above is not None:
        if run.outlier_score is None:
            raise InputError(f"--drop-outliers: {path} is of an earlier version, without outlier scores; train again")
        keep &= run.outlier_score <= criteria.outliers_above
    rows = np.flatnonzero(keep)
    if len(rows) == 0:
        raise InputError(f"{path}: no particle of the run is in the selection; choose other clusters or wider bounds")
    if random is not None:
        rows = rows[choose_rows(len(rows), None, random=random, seed=seed)]
    return file, in_file[rows]


def write_table(
    path: Path,
    rows: Int[np.ndarray, " m"],
    out: Path,
    particles: Path | None = None,
    datadir: Path | None = None,
) -> Path:
    """These rows of a run's particle file as CSV, with latents, contrast and outlier score (:meth:`.Run.table`).

    Raises:
        InputError: the particle file is gone, or no longer has the run's particles.
    """
    run = open_run(path)
    chosen = np.isin(RunPaths(path).read_rows(len(run.latents)), rows)
    write_text(out, run.table(particles, datadir)[chosen].to_csv(index=False))
    return out


def inside_box(coordinates: Float[np.ndarray, "n q"], text: str) -> np.ndarray:
    """Which points lie within ``min1,max1,min2,max2,...``; an empty bound is none.

    Raises:
        InputError: no pairs of numbers, or more of them than there are coordinates.
    """
    parts = [part.strip() for part in text.split(",")]
    expected = f"--latent-box {text}: expected pairs min,max of numbers for the first coordinates (empty for no bound)"
    try:
        bounds = np.array([float(part) if part else np.nan for part in parts])
    except ValueError as error:
        raise InputError(expected) from error
    if len(bounds) % 2 or len(bounds) // 2 > coordinates.shape[1]:
        raise InputError(f"{expected}; the run has {coordinates.shape[1]} of them, {len(bounds)} numbers were given")
    keep = np.ones(len(coordinates), dtype=bool)
    for axis, (low, high) in enumerate(bounds.reshape(-1, 2)):
        # A comparison with NaN is false.
        keep &= ~(coordinates[:, axis] < low) & ~(coordinates[:, axis] > high)
    return keep


def _clusters(run: Path, count: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " c"]]:
    """The cluster of every particle, from 0, and the particle in the middle of each."""
    path = run / "analysis" / "latent_space.npz"
    if not path.exists():
        raise InputError(f"{path}: no such file, so there are no clusters yet; run: cryoformer analyze {run}")
    try:
        with np.load(path, allow_pickle=False) as analysis:
            labels, centres = analysis["labels"], analysis["centres"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path}: holds no clusters ({error}); run: cryoformer analyze {run}") from error
    if labels.shape != (count,):
        raise InputError(f"{path}: is of {labels.size} particles, the run has {count}; run: cryoformer analyze {run}")
    return labels, centres


def cluster_centre(run: Path, count: int, number: int) -> int:
    """The particle in the middle of a cluster (from 1), whose density is the report's state.

    Raises:
        InputError: the run was not analysed, or has no such cluster.
    """
    labels, centres = _clusters(run, count)
    _known_clusters(run, labels, (number,))
    return int(centres[number - 1])


def _known_clusters(run: Path, labels: Int[np.ndarray, " n"], wanted: tuple[int, ...]) -> list[int]:
    """Labels (from 0) of these clusters (from 1)."""
    known = np.unique(labels)
    unknown = [cluster for cluster in wanted if cluster - 1 not in known]
    if unknown:
        raise InputError(f"--cluster {unknown[0]}: the clusters of {run} are {known.min() + 1} to {known.max() + 1}")
    return [cluster - 1 for cluster in wanted]


def _named(run: Path, count: int, name: str) -> Int[np.ndarray, " m"]:
    path = run / "selections" / f"{name}.npy"
    if not path.exists():
        saved = ", ".join(sorted(other.stem for other in path.parent.glob("*.npy"))) or "none"
        raise InputError(f"--name {name}: no such selection in {path.parent} (saved: {saved})")
    return read_indices(path, count)

"""Lines through the latent space worth looking at: along components, through the densest region, through given points.

Points of a component trajectory are latents of particles: means of latents can lie off the data, where the decoder was
never asked. A posterior mean is drawn towards the average of all particles, so the ends of a trajectory lie somewhat
inside the true extremes; and an end state stands for a few per cent of the particles, not for the last one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cryoformer.assess.ground_truth import GroundTruth
from cryoformer.assess.latent_space import PrincipalCoordinates, principal_coordinates
from cryoformer.decode.volume_source import class_means, nearest_latents
from cryoformer.errors import InputError
from cryoformer.explore.density_path import density_path

FRAMES = 11
LOWEST_QUANTILE = 0.05
SLAB = 0.05
"""Share of the particles around a quantile whose mean latent stands for it."""
SMALLEST_COMPONENT = 0.05
"""Components with less than this share of the variance get no trajectory."""
MOST_COMPONENTS = 3
BANDWIDTH = 0.5
"""Of the mean shift, in spreads of a slab."""
MEAN_SHIFTS = 20


@dataclass(frozen=True)
class Trajectory:
    """Latent points along a motion, in order."""

    name: str
    latents: Float[np.ndarray, "m k"]
    labels: list[str]
    states: Int[np.ndarray, " m"] | None = None
    """The true state that each point stands for, where the truth is known."""


def trajectories(
    latents: Float[np.ndarray, "n k"],
    principal: PrincipalCoordinates,
    between: tuple[int, int] | None = None,
    points: Float[np.ndarray, "m k"] | None = None,
) -> list[Trajectory]:
    """All trajectories of a run, the main one (component 1) first.

    ``between`` are the particles that the path of highest density joins, by default the ends of the main trajectory.
    """
    shown = int((principal.explained[:MOST_COMPONENTS] >= SMALLEST_COMPONENT).sum())
    found = [component_trajectory(latents, axis, principal=principal) for axis in range(max(shown, 1))]
    ends = between or tuple(int(p) for p in nearest_latents(latents, found[0].latents[[0, -1]]))
    for particle in ends:
        if not 0 <= particle < len(latents):
            raise InputError(f"--between: there is no particle {particle}; the run has {len(latents)}, counted from 0")
    line = density_path(latents, ends[0], ends[1], FRAMES)
    found.append(Trajectory("density_path", line, [f"{place:.0%} of the way" for place in np.linspace(0, 1, FRAMES)]))
    if points is not None:
        found.append(
            Trajectory("points", np.asarray(points, dtype=np.float64), [f"point {i}" for i in range(len(points))])
        )
    return found


def component_trajectory(
    latents: Float[np.ndarray, "n k"],
    axis: int = 0,
    frames: int = FRAMES,
    principal: PrincipalCoordinates | None = None,
) -> Trajectory:
    """From one end of a principal component of the latents to the other, at evenly spaced quantiles.

    The ends are the 5 % and 95 % quantiles. At each, the crowd among the 5 % of particles around it is followed, so the
    path bends with the data; the particle nearest to it is the point. Where there are several crowds (a bent cloud cut
    across its arms) the path stays with the one it came from: their mean would lie where no particle is.
    """
    principal = principal or principal_coordinates(latents)
    slabs = [latents[rows].astype(np.float64) for rows in quantile_rows(principal.coordinates[:, axis], frames)]
    backwards = slabs[-1].var(axis=0).sum() < slabs[0].var(axis=0).sum()
    slabs = slabs[::-1] if backwards else slabs
    crowds = [slabs[0].mean(axis=0)]
    for slab in slabs:
        crowds.append(_nearest_crowd(slab, crowds[-1]))
    crowds = crowds[:0:-1] if backwards else crowds[1:]
    labels = [f"quantile {quantile:.0%}" for quantile in _quantiles(frames)]
    return Trajectory(f"component_{axis + 1}", latents[nearest_latents(latents, np.stack(crowds))], labels)


def _nearest_crowd(slab: Float[np.ndarray, "s k"], start: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Where mean shift ends: the mean of points weighted by how near they are to it, by half of their spread."""
    spread = max(float(slab.var(axis=0).sum()), 1e-300)
    place = start
    for _ in range(MEAN_SHIFTS):
        square = ((slab - place) ** 2).sum(axis=1) / spread
        weights = np.exp(-0.5 * (square - square.min()) / BANDWIDTH**2)
        place = weights @ slab / weights.sum()
    return np.asarray(place)


def quantile_rows(along: Float[np.ndarray, " n"], frames: int) -> list[Int[np.ndarray, " s"]]:
    """The 5 % of the particles around each of these quantiles of a coordinate."""
    order = np.argsort(along, kind="stable")
    half = max(int(SLAB / 2.0 * len(order)), 1)
    middles = [min(int(quantile * len(order)), len(order) - 1) for quantile in _quantiles(frames)]
    return [order[max(middle - half, 0) : middle + half + 1] for middle in middles]


def truth_trajectory(latents: Float[np.ndarray, "n k"], truth: GroundTruth, frames: int = FRAMES) -> Trajectory:
    """The particles nearest to the mean latents of evenly spaced true states, in the order of the motion."""
    series = truth.series()
    present = series[np.isin(series, truth.state_of_image)]
    chosen = present[evenly(len(present), frames)]
    particles = nearest_latents(latents, class_means(latents, truth.state_of_image, [int(s) for s in chosen]))
    labels = [truth.label(int(state)) for state in chosen]
    return Trajectory("truth", latents[particles], labels, chosen.astype(np.int64))


def evenly(available: int, wanted: int) -> Int[np.ndarray, " m"]:
    """At most ``wanted`` indices from 0 to ``available - 1``, both ends among them."""
    return np.unique(np.linspace(0, available - 1, min(wanted, available)).round().astype(np.int64))


def _quantiles(frames: int) -> Float[np.ndarray, " m"]:
    return np.linspace(LOWEST_QUANTILE, 1.0 - LOWEST_QUANTILE, frames)

"""Motion in words and numbers: which regions move along a trajectory, how far, and how sure that is.

Every moving region is followed from the first to the last state by :mod:`.rigid_motion`. The standard deviation is that
of three things in squares: bootstrap samples of the particles with latents drawn from their posteriors, which
choose the end states anew; the noise of the half maps, added anew each time; and half of the disagreement between
following the motion forwards and backwards. End states are averages of 5 % of the particles, and posterior means are
drawn towards the average of all, so a motion is measured as somewhat shorter than it is.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cryoformer.assess.clusters import draw_latents
from cryoformer.assess.ground_truth import GroundTruth
from cryoformer.assess.masks import state_spread
from cryoformer.explore.flexibility import MOVING_FRACTION, Region, moving_regions
from cryoformer.explore.half_maps import map_noise
from cryoformer.explore.rigid_motion import LEAST_BALANCE, RigidMotion, rigid_motions
from cryoformer.explore.trajectory import LOWEST_QUANTILE, Trajectory, quantile_rows
from cryoformer.imaging.grids import crop_volume
from cryoformer.run.run_folder import Run

COARSEST_PIXEL = 3.5
"""Finer volumes are Fourier-cropped to about this pixel: motions of whole parts need no more."""
BOOTSTRAPS = 10


@dataclass(frozen=True)
class RegionMotion:
    """One region's motion along the trajectory."""

    region: Region
    pixel_size_angstrom: float
    steps: list[RigidMotion]
    """From the first state to each later one."""
    distance_deviation: float
    rotation_deviation: float
    """Standard deviations, Angstrom and degrees."""

    @property
    def whole(self) -> RigidMotion:
        """From end to end."""
        return self.steps[-1]

    @property
    def volume_angstrom(self) -> float:
        """Volume of the region in cubic Angstrom."""
        return float(self.region.voxels.sum()) * self.pixel_size_angstrom**3


def measure_motion(
    run: Run, trajectory: Trajectory, along: Float[np.ndarray, " n"], seed: int = 0
) -> list[RegionMotion]:
    """Motions of the moving regions along a trajectory, the most flexible region first.

    Args:
        run: the run.
        trajectory: the states, in order.
        along: the coordinate of every particle whose quantiles the trajectory follows.
    """
    box = motion_box(run.box, run.pixel_size_angstrom)
    pixel = run.pixel_size_angstrom * run.box / box
    states = [crop_volume(volume, box) for volume in run.latent_volumes(trajectory.latents)]
    noise = crop_volume(map_noise(run.half_maps), box)
    regions = moving_regions(state_spread(states))
    found = [rigid_motions(states, region.voxels, pixel) for region in regions]
    parts = [(region, steps[-1]) for region, steps in zip(regions, found, strict=True)]
    again = _bootstrap(run, parts, along, noise, box, np.random.default_rng(seed))
    motions = []
    for region, steps, draws in zip(regions, found, again, strict=True):
        distance, rotation = draws.std(axis=0, ddof=1)
        distance = float(np.hypot(distance, steps[-1].disagreement_angstrom))
        rotation = float(np.hypot(rotation, steps[-1].disagreement_degrees))
        motions.append(RegionMotion(region, pixel, steps, distance, rotation))
    return motions


def motion_box(box: int, pixel_size_angstrom: float) -> int:
    """Even box, at most the run's, of about the coarsest pixel."""
    return min(box, 2 * int(np.ceil(box * pixel_size_angstrom / COARSEST_PIXEL / 2.0)))


def _bootstrap(
    run: Run,
    parts: list[tuple[Region, RigidMotion]],
    along: Float[np.ndarray, " n"],
    noise: Float[np.ndarray, "d d d"],
    box: int,
    rng: np.random.Generator,
) -> list[Float[np.ndarray, "b 2"]]:
    """Distance and rotation of every region in bootstrap samples, each fit starting at the motion found."""
    draws: list[list[tuple[float, float]]] = [[] for _ in parts]
    for _ in range(BOOTSTRAPS if parts else 0):
        sample = rng.integers(0, len(along), len(along))
        slabs = [sample[rows] for rows in quantile_rows(along[sample], 2)]
        ends = [draw_latents(run.latents[r], run.latents_covariance[r], rng).mean(axis=0) for r in slabs]
        states = [crop_volume(volume, box) + _shifted(noise, rng) for volume in run.latent_volumes(np.stack(ends))]
        for (region, start), found in zip(parts, draws, strict=True):
            motion = rigid_motions(states, region.voxels, run.pixel_size_angstrom * run.box / box, start)[-1]
            found.append((motion.distance_angstrom, motion.rotation_degrees))
    return [np.array(found).reshape(-1, 2) for found in draws]


def _shifted(noise: Float[np.ndarray, "d d d"], rng: np.random.Generator) -> Float[np.ndarray, "d d d"]:
    """Another draw of noise with the same spectrum: moved around the box, with either sign."""
    shift = tuple(int(s) for s in rng.integers(0, noise.shape[0], 3))
    return np.asarray(float(rng.choice([-1.0, 1.0])) * np.roll(noise, shift, axis=(0, 1, 2)))


def true_motion(truth: GroundTruth) -> tuple[RigidMotion, tuple[float, float]] | None:
    """The motion of the true states between the quantiles at which trajectories end, and those two values of t.

    By the same estimator, in the region where the true states differ; None where they do not.
    """
    low, high = np.quantile(truth.t, [LOWEST_QUANTILE, 1.0 - LOWEST_QUANTILE])
    order = truth.series()
    first, last = (int(np.abs(truth.state_t[order] - t).argmin()) for t in (low, high))
    box = motion_box(truth.box, truth.pixel_size_angstrom)
    states = [crop_volume(truth.state(int(state)), box) for state in order[first : last + 1]]
    regions = moving_regions(state_spread(states))
    if not regions:
        return None
    motion = rigid_motions(states, regions[0].voxels, truth.pixel_size_angstrom * truth.box / box)[-1]
    return motion, (float(truth.state_t[order[first]]), float(truth.state_t[order[last]]))


def in_words(motions: list[RegionMotion], trajectory: Trajectory) -> list[str]:
    """A sentence per region."""
    ends = f"from {trajectory.labels[0]} to {trajectory.labels[-1]} of {trajectory.name.replace('_', ' ')}"
    sentences = []
    for number, motion in enumerate(motions, start=1):
        size = (
            f"Region {number} ({motion.volume_angstrom / 1000:.0f} nm³, {motion.region.share:.0%} of the flexibility)"
        )
        whole = motion.whole
        if whole.is_rigid:
            sentences.append(
                f"{size}: its centre of mass moves {whole.distance_angstrom:.1f} ± {motion.distance_deviation:.1f} Å "
                f"and it turns by {whole.rotation_degrees:.0f} ± {max(motion.rotation_deviation, 1):.0f}° {ends}; "
                f"a rigid motion explains {whole.explained:.0%} of the change there."
            )
        elif whole.balance < LEAST_BALANCE:
            sentences.append(f"{size}: density appears or disappears rather than moves {ends}; no distance is given.")
        else:
            sentences.append(
                f"{size}: the change {ends} is not one rigid motion (which would explain "
                f"{max(whole.explained, 0.0):.0%} of it); no distance is given."
            )
    if not sentences:
        return [f"No region was found to move (threshold: {MOVING_FRACTION:.0%} of the largest flexibility)."]
    return sentences

"""Everything that ``cryoformer analyze`` finds out about a run, before any of it is drawn or written."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from cryoformer.assess.clusters import CLUSTERS, Clusters, Shares, cluster_shares, clusters
from cryoformer.assess.ground_truth import GroundTruth, load_truth
from cryoformer.assess.latent_space import PrincipalCoordinates, principal_coordinates
from cryoformer.assess.masks import StateSpread
from cryoformer.errors import InputError
from cryoformer.explore.attention import AttentionOverStates, attention_over_states, has_attention, state_pairs
from cryoformer.explore.flexibility import (
    LEAST_CHANGE,
    MOVING_FRACTION,
    flexibility,
    sampled_states,
    score_against_truth,
    state_uncertainty,
)
from cryoformer.explore.half_maps import half_map_fsc, local_resolution
from cryoformer.explore.landscape import Landscape, landscape, umap_coordinates
from cryoformer.explore.motion import RegionMotion, measure_motion, true_motion
from cryoformer.explore.parts import density_patterns, moving_parts, query_parts
from cryoformer.explore.rigid_motion import RigidMotion
from cryoformer.explore.trajectory import Trajectory, trajectories
from cryoformer.explore.viewpoint import contour_level
from cryoformer.progress import RunLog
from cryoformer.run.run_folder import Run


@dataclass(frozen=True)
class AnalysisOptions:
    """What ``cryoformer analyze`` can be told."""

    truth: Path | None = None
    clusters: int = CLUSTERS
    umap: bool = False
    points: Float[np.ndarray, "m k"] | None = None
    between: tuple[int, int] | None = None
    all_queries: bool = False
    """Attention maps of all structure queries, not of the largest alone."""
    out: Path | None = None
    """Folder for what is written; the run's own if None."""


@dataclass(frozen=True)
class MovingParts:
    """Places that move together, and the structure queries that say so."""

    voxels: Int[np.ndarray, " p"]
    """Moving voxels, as indices into the flattened volume."""
    part: Int[np.ndarray, " p"]
    """The part of each, from 0, the largest first."""
    strength: Float[np.ndarray, " p"]
    """How much attention (density, for a network without it) changes there."""
    queries: Int[np.ndarray, " n"] | None
    """The part of each structure query; None without attention."""

    @property
    def count(self) -> int:
        """Number of parts."""
        return int(self.part.max()) + 1 if len(self.part) else 0

    def volume(self, part: int, box: int) -> Float[np.ndarray, "d d d"]:
        """Strength within one part [z, y, x], zero elsewhere."""
        volume = np.zeros(box**3, dtype=np.float32)
        volume[self.voxels] = np.where(self.part == part, self.strength, 0.0)
        return volume.reshape(box, box, box)


@dataclass(frozen=True)
class TruthComparison:
    """What the true states say (``--truth``)."""

    flexibility_auc: dict[str, dict[str, float]] | None
    motion: RigidMotion | None
    motion_t: tuple[float, float] | None


@dataclass(frozen=True)
class Findings:
    """The analysis of a run."""

    run: Run
    options: AnalysisOptions
    truth: GroundTruth | None
    principal: PrincipalCoordinates
    umap: Float[np.ndarray, "n 2"] | None
    landscape: Landscape | None
    clusters: Clusters
    shares: Shares
    trajectories: list[Trajectory]
    flexibility: StateSpread
    attention: AttentionOverStates | None
    typical_attention: Float[np.ndarray, "p n"] | None
    """Attention in the state of the largest cluster's centre."""
    parts: MovingParts
    motions: list[RegionMotion]
    half_map_fsc: Float[np.ndarray, " s"]
    local_resolution: Float[np.ndarray, "d d d"]
    uncertainty: Float[np.ndarray, "d d d"]
    comparison: TruthComparison | None

    @property
    def folder(self) -> Path:
        """Where the report and what belongs to it go."""
        return self.run.path if self.options.out is None else self.options.out

    @property
    def level(self) -> float:
        """Contour level of the run's densities."""
        return contour_level(self.flexibility.mean)


def find(run: Run, options: AnalysisOptions, log: RunLog) -> Findings:
    """Analyse a run.

    Raises:
        InputError: latents that are not numbers, or options that do not fit the run.
    """
    latents = np.asarray(run.latents)
    if not np.isfinite(latents).all():
        raise InputError(f"{run.path}: the latents hold values that are not numbers; the run has failed")
    if not 1 <= options.clusters <= len(latents):
        raise InputError(f"--clusters {options.clusters}: expected 1 to {len(latents)}, the number of particles")
    truth = None if options.truth is None else load_truth(options.truth, run.box, run.pixel_size_angstrom, len(latents))
    log.stage("latent space")
    principal = principal_coordinates(latents)
    flat = principal.coordinates[:, :2]
    groups = clusters(latents, options.clusters)
    paths = trajectories(latents, principal, options.between, options.points)
    umap = None
    if options.umap:
        log.stage("UMAP")
        umap = umap_coordinates(principal.coordinates)
    log.stage("flexibility and attention")
    states = sampled_states(latents)
    spread = flexibility(run, states)
    attention = attention_over_states(run.model, states) if has_attention(run.model) else None
    typical = latents[groups.particles[:1]]
    log.stage("motion")
    motions = measure_motion(run, paths[0], principal.coordinates[:, 0])
    log.stage("resolution and uncertainty")
    comparison = None if truth is None else _compare(truth, spread, attention, run.box)
    return Findings(
        run=run,
        options=options,
        truth=truth,
        principal=principal,
        umap=umap,
        landscape=landscape(flat) if flat.shape[1] == 2 else None,
        clusters=groups,
        shares=cluster_shares(groups, latents, np.asarray(run.latents_covariance)),
        trajectories=paths,
        flexibility=spread,
        attention=attention,
        typical_attention=None if attention is None else attention_over_states(run.model, typical).mean,
        parts=_parts(run, spread, attention, states),
        motions=motions,
        half_map_fsc=half_map_fsc(run.half_maps),
        local_resolution=local_resolution(run.half_maps, run.pixel_size_angstrom),
        uncertainty=state_uncertainty(run, int(groups.particles[0])),
        comparison=comparison,
    )


def _parts(run: Run, spread: StateSpread, attention: AttentionOverStates | None, states: np.ndarray) -> MovingParts:
    flexible = spread.deviation.ravel()
    moving = flexible > max(MOVING_FRACTION * float(flexible.max()), LEAST_CHANGE * spread.largest_value)
    if attention is None:
        voxels = np.flatnonzero(moving)
        patterns = density_patterns(run.latent_volumes(states), voxels, state_pairs(len(states)))
        return MovingParts(voxels, moving_parts(patterns), flexible[voxels], None)
    rows = np.flatnonzero(moving[attention.voxels])
    part = moving_parts(attention.patterns[rows])
    queries = query_parts(attention.deviation[rows], part) if len(rows) else None
    return MovingParts(attention.voxels[rows], part, attention.change[rows], queries)


def _compare(
    truth: GroundTruth, spread: StateSpread, attention: AttentionOverStates | None, box: int
) -> TruthComparison:
    maps = {"flexibility": spread.deviation}
    if attention is not None:
        maps["attention_change"] = attention.volume(attention.change, box)
    found = true_motion(truth)
    motion, ends = (None, None) if found is None else found
    return TruthComparison(score_against_truth(maps, truth), motion, ends)

"""From keyframes (atomic models of one molecule) to a motion path, with an account of what moves and how far."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from cryoformer.errors import InputError
from cryoformer.simulate.domains import describe_residues, find_domains, named_domains, spread_labels, still_part
from cryoformer.simulate.hinges import settle_hinges
from cryoformer.simulate.matching import chain_index, match_residues
from cryoformer.simulate.motion import MotionPath, Screw
from cryoformer.simulate.structures import AtomicModel
from cryoformer.simulate.superposition import RigidTransform, largest_rigid_body, superpose

TOLERANCES_ANGSTROM = (3.0, 2.0, 1.0)
"""Tried in turn until something is found to move: large motions are told apart best with a generous tolerance."""

LEAST_POINTS = 4
"""Points below which a rigid motion is not well determined."""


@dataclass(frozen=True)
class DomainMotion:
    """What one domain does in one segment of the path.

    ``residues`` are those of the first model that move; displacements and fit are over the representative atoms of the
    ``compared_residues`` that all models have.
    """

    segment: int
    residues: str
    compared_residues: int
    rotation_degrees: float
    axis: tuple[float, ...]
    point_angstrom: tuple[float, ...]
    advance_angstrom: float
    centroid_displacement_angstrom: float
    mean_displacement_angstrom: float
    fit_rms_angstrom: float


@dataclass(frozen=True)
class SegmentReport:
    """How two keyframes were compared: ``still_rms_angstrom`` is over the superposed core."""

    keyframes: tuple[str, str]
    common_residues: int
    core_residues: int
    core_rms_angstrom: float
    domains: tuple[DomainMotion, ...]


@dataclass(frozen=True)
class _Comparison:
    """Two keyframes in the frame of the first model: one point per common residue (index in the first model)."""

    residues: Int[np.ndarray, " m"]
    source: Float[np.ndarray, "m 3"]
    target: Float[np.ndarray, "m 3"]
    labels: Int[np.ndarray, " m"]
    tolerance: float
    core_count: int
    core_rms: float
    to_start_frame: RigidTransform


def build_path(
    models: Sequence[AtomicModel], moving: str | None = None, tolerance_angstrom: float | None = None
) -> tuple[MotionPath, tuple[SegmentReport, ...]]:
    """The path of the first model's atoms through all keyframes.

    ``moving`` names the moving domains (see :func:`cryoformer.simulate.domains.parse_moving`); without it they are
    found. Each domain's motion in a segment brings it, from where it has got to, onto the next keyframe.

    Raises:
        InputError: models that are not of one molecule, or between which nothing moves; a ``moving`` that fits no
            residue.
    """
    start = models[0]
    if len(models) == 1:
        if moving:
            raise InputError(
                f"moving parts ({moving}) were named, but {start.name} is the only model: give two or more"
            )
        return MotionPath(np.zeros(len(start.elements), dtype=np.int64), ()), ()
    given = named_domains(moving, start) if moving else None
    frame = RigidTransform(np.eye(3), np.zeros(3))
    labels, comparisons = [], []
    for first, second in pairwise(models):
        comparison = _compare(start, first, second, frame, given, tolerance_angstrom)
        frame = comparison.to_start_frame
        comparisons.append(comparison)
        labels.append(spread_labels(start, comparison.residues, comparison.labels) if given is None else given)

    # Residues that share their label in every segment form a group; column g of ``combinations`` holds those labels.
    combinations, group = np.unique(np.stack(labels), axis=1, return_inverse=True)
    group = group.reshape(-1)
    representatives = start.representatives()
    screws: tuple[tuple[Screw | None, ...], ...] = ()
    reports = []
    for segment, comparison in enumerate(comparisons):
        so_far = MotionPath(group[comparison.residues], screws or ((None,) * combinations.shape[1],))
        here = so_far.positions(start.positions_angstrom[representatives[comparison.residues]], 1.0)
        fitted = _fit_domains(comparison, here)
        screws = (*screws, tuple(fitted.get(int(label)) for label in combinations[segment]))
        domains = []
        for label, screw in fitted.items():
            residues = np.flatnonzero((labels[segment] == label) & (representatives >= 0))
            members = comparison.labels == label
            name = describe_residues(start.residues, residues)
            domains.append(_describe(segment, name, comparison.target[members], here[members], screw))
        reports.append(
            SegmentReport(
                keyframes=(models[segment].name, models[segment + 1].name),
                common_residues=len(comparison.residues),
                core_residues=comparison.core_count,
                core_rms_angstrom=comparison.core_rms,
                domains=tuple(domains),
            )
        )
    return MotionPath(group[start.atom_residue], screws), tuple(reports)


def _compare(
    start: AtomicModel,
    first: AtomicModel,
    second: AtomicModel,
    frame: RigidTransform,
    given: Int[np.ndarray, " r"] | None,
    tolerance_angstrom: float | None,
) -> _Comparison:
    """Superpose ``second`` on ``first`` (which ``frame`` takes to the start model's frame) and label what moves."""
    to_first, to_second = _pairs_from(start, first), _pairs_from(start, second)
    residues = np.intersect1d(to_first[:, 0], to_second[:, 0])
    source = frame.apply(_points(first, _partner(to_first, residues)))
    raw = _points(second, _partner(to_second, residues))
    chains = chain_index(start)[residues]
    still = np.ones(len(residues), dtype=bool) if given is None else given[residues] == 0
    labels = np.zeros(len(residues), dtype=np.int64)
    if still.sum() < LEAST_POINTS:
        raise InputError(f"{second.name}: the moving parts leave nothing that stands still: name fewer residues")
    if given is not None and np.bincount(given[residues], minlength=given.max() + 1).min() < LEAST_POINTS:
        raise InputError(
            f"{second.name}: has fewer than {LEAST_POINTS} residues of one of the moving parts; name a part that all "
            "models have"
        )
    for tolerance in (tolerance_angstrom,) if tolerance_angstrom else TOLERANCES_ANGSTROM:
        back, core = still_part(source[still], raw[still], chains[still], tolerance)
        target = back.apply(raw)
        if given is not None:
            labels = given[residues]
        else:
            labels = settle_hinges(source, target, chains, find_domains(source, target, chains, tolerance))
        if labels.any():
            break
    else:
        raise InputError(
            f"{second.name}: found nothing that moves between {first.name} and this model (tolerance {tolerance:g} A); "
            f"name the moving residues (--moving CHAIN:FIRST-LAST), or give one model for a molecule that stands still"
        )
    rms = float(np.sqrt(np.mean(np.sum((target - source)[still][core] ** 2, axis=1)))) if core.any() else 0.0
    return _Comparison(residues, source, target, labels, tolerance, int(core.sum()), rms, back)


def _fit_domains(comparison: _Comparison, here: Float[np.ndarray, "m 3"]) -> dict[int, Screw]:
    """The screws that take the domains from ``here`` to the next keyframe, residues that do not fit left out."""
    screws = {}
    for label in range(1, int(comparison.labels.max()) + 1):
        members = comparison.labels == label
        source, target = here[members], comparison.target[members]
        one_chain = np.zeros(len(source), dtype=np.int64)
        _, inside = largest_rigid_body(source, target, one_chain, comparison.tolerance, connected=False)
        used = inside if inside.sum() >= max(LEAST_POINTS, len(source) / 2) else np.ones(len(source), dtype=bool)
        screws[label] = Screw.from_motion(superpose(source, target, used.astype(np.float64)))
    return screws


def _describe(
    segment: int,
    residues: str,
    target: Float[np.ndarray, "m 3"],
    here: Float[np.ndarray, "m 3"],
    screw: Screw,
) -> DomainMotion:
    rotation, translation = screw.at(np.ones(1))
    moved = RigidTransform(rotation[0], translation[0]).apply(here)
    return DomainMotion(
        segment=segment,
        residues=residues,
        compared_residues=len(here),
        rotation_degrees=float(np.degrees(screw.angle_radians)),
        axis=tuple(screw.axis.tolist()),
        point_angstrom=tuple(screw.point.tolist()),
        advance_angstrom=screw.advance_angstrom,
        centroid_displacement_angstrom=float(np.linalg.norm(moved.mean(axis=0) - here.mean(axis=0))),
        mean_displacement_angstrom=float(np.linalg.norm(moved - here, axis=1).mean()),
        fit_rms_angstrom=float(np.sqrt(np.mean(np.sum((moved - target) ** 2, axis=1)))),
    )


def _pairs_from(start: AtomicModel, model: AtomicModel) -> Int[np.ndarray, "m 2"]:
    if model is start:
        usable = np.flatnonzero(start.representatives() >= 0)
        return np.stack([usable, usable], axis=1)
    return match_residues(start, model)


def _partner(pairs: Int[np.ndarray, "m 2"], residues: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
    order = np.argsort(pairs[:, 0])
    return pairs[order, 1][np.searchsorted(pairs[order, 0], residues)]


def _points(model: AtomicModel, residues: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k 3"]:
    return model.positions_angstrom[model.representatives()[residues]]

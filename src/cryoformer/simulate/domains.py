"""Which part of a molecule stands still between two conformations, and which parts move as rigid domains.

All functions work on one representative point per residue that both conformations have, the second conformation
being ``target``. A domain is labelled 1, 2, ...; 0 is the part that stands still.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from cryoformer.errors import InputError
from cryoformer.simulate.structures import AtomicModel, Residue
from cryoformer.simulate.superposition import RigidTransform, largest_group, largest_rigid_body, superpose

LEAST_RESIDUES = 15
MOST_DOMAINS = 8
LEAST_MOTION = 1.5
"""Mean displacement of a domain, in tolerances, below which it counts as still."""
SHORTEST_RUN = 5
"""Fewer residues of one label in a row take the label of what is beside them in the chain."""
RANGE = re.compile(r"(?:(?P<chain>[^:]+):)?(?P<first>-?\d+)(?:-(?P<last>-?\d+))?")


def still_part(
    source: Float[np.ndarray, "p 3"],
    target: Float[np.ndarray, "p 3"],
    chain_index: Int[np.ndarray, " p"],
    tolerance_angstrom: float,
) -> tuple[RigidTransform, Bool[np.ndarray, " p"]]:
    """The motion that brings ``target`` back onto ``source`` along its largest rigid part, and that part."""
    motion, core = largest_rigid_body(source, target, chain_index, tolerance_angstrom, connected=False)
    if core.sum() >= 4:
        motion = superpose(source, target, core.astype(np.float64))
    return motion.inverse(), core


def find_domains(
    source: Float[np.ndarray, "p 3"],
    target: Float[np.ndarray, "p 3"],
    chain_index: Int[np.ndarray, " p"],
    tolerance_angstrom: float,
) -> Int[np.ndarray, " p"]:
    """Labels of the rigid domains of a molecule whose still part is already superposed.

    Greedy: the largest connected group of residues that one rigid motion explains within the tolerance is taken out,
    then the next. Groups that are small or hardly move belong to the still part. At the end every residue takes the
    motion that suits it best, unless it is cut off from the rest of that domain; short pieces join what is beside
    them in the chain, so that linkers belong to a neighbour.
    """
    motions = [RigidTransform(np.eye(3), np.zeros(3))]
    left = np.linalg.norm(target - source, axis=1) >= tolerance_angstrom
    while left.sum() >= LEAST_RESIDUES and len(motions) <= MOST_DOMAINS:
        index = np.flatnonzero(left)
        motion, inside = largest_rigid_body(
            source[index], target[index], chain_index[index], tolerance_angstrom, connected=True
        )
        members = index[inside]
        if len(members) < LEAST_RESIDUES:
            break
        left[members] = False
        if np.linalg.norm(target[members] - source[members], axis=1).mean() >= LEAST_MOTION * tolerance_angstrom:
            motions.append(motion)
    misfit = np.stack([np.linalg.norm(motion.apply(source) - target, axis=1) for motion in motions])
    labels = misfit.argmin(axis=0)
    labels = _absorb_short_runs(labels, chain_index)
    for label in range(1, len(motions)):
        labels[(labels == label) & ~largest_group(source, labels == label)] = 0
    sizes = np.bincount(labels, minlength=len(motions))
    kept = [label for label in range(1, len(motions)) if sizes[label] >= LEAST_RESIDUES]
    renumbered = np.zeros(len(motions), dtype=np.int64)
    renumbered[sorted(kept, key=lambda label: -sizes[label])] = np.arange(1, len(kept) + 1)
    return renumbered[labels]


def parse_moving(text: str, model: AtomicModel, what: str = "moving part") -> Int[np.ndarray, " r"]:
    """Labels of the residues of ``model`` from text such as ``B:331-528,A:10-40+60-80``.

    Commas separate domains, plus signs the ranges of one domain. A range without a chain belongs to the chain named
    before it. Residue numbers are those of the file; both ends are included. ``what`` names the parts in errors.

    Raises:
        InputError: the text is no such list, a range holds no residue of the model, or two domains overlap.
    """
    labels = np.zeros(len(model.residues), dtype=np.int64)
    for label, domain in enumerate(text.split(","), start=1):
        chain = ""
        for part in domain.split("+"):
            found = RANGE.fullmatch(part.strip())
            chain = (found and found["chain"]) or chain
            if found is None or not chain:
                raise InputError(f"{what} {part.strip()!r}: expected CHAIN:FIRST-LAST, for example B:331-528")
            first, last = int(found["first"]), int(found["last"] or found["first"])
            members = [i for i, r in enumerate(model.residues) if r.chain == chain and first <= r.number <= last]
            if not members:
                raise InputError(f"{what} {part.strip()!r}: {model.name} has no such residues in chain {chain}")
            if np.any((labels[members] != 0) & (labels[members] != label)):
                raise InputError(f"{what} {part.strip()!r} overlaps another {what}: give each residue once")
            labels[members] = label
    return labels


def named_domains(text: str, model: AtomicModel, what: str = "moving part") -> Int[np.ndarray, " r"]:
    """Labels of all residues as the user named them; ligands and sugars that were not named go with what is near.

    Raises:
        InputError: as :func:`parse_moving`.
    """
    named = parse_moving(text, model, what)
    known = np.flatnonzero(model.representatives() >= 0)
    if len(known) == 0:
        return named
    return np.where(named > 0, named, spread_labels(model, known, named[known]))


def spread_labels(
    model: AtomicModel, known: Int[np.ndarray, " m"], labels: Int[np.ndarray, " m"]
) -> Int[np.ndarray, " r"]:
    """Labels for all residues of the model from those of the residues ``known``.

    A residue that the other conformation lacks goes with the nearest known one of its chain; ligands, sugars and
    chains without any known residue go with the known residue nearest in space.
    """
    spread = np.full(len(model.residues), -1)
    spread[known] = labels
    by_chain = {chain: np.intersect1d(residues, known) for chain, residues in model.chains().items()}
    points = model.positions_angstrom[model.representatives()[known]]
    for index in np.flatnonzero(spread < 0):
        residue = model.residues[index]
        same = by_chain.get(residue.chain, np.zeros(0, dtype=np.int64)) if residue.polymer else np.zeros(0, int)
        if len(same):
            spread[index] = spread[same[np.abs(same - index).argmin()]]
        else:
            own = model.positions_angstrom[model.atom_residue == index]
            distances = np.linalg.norm(own[:, None] - points[None], axis=-1).min(axis=0)
            spread[index] = labels[distances.argmin()]
    return spread


def describe_residues(residues: Sequence[Residue], members: Int[np.ndarray, " m"]) -> str:
    """Residues as ranges in the form that :func:`parse_moving` reads, such as ``B:331-454+462-466``."""
    ranges: list[str] = []
    chain = ""
    position = 0
    while position < len(members):
        end = position
        first = residues[members[position]]
        while (
            end + 1 < len(members)
            and members[end + 1] == members[end] + 1
            and residues[members[end + 1]].chain == first.chain
        ):
            end += 1
        last = residues[members[end]]
        ranges.append(("" if first.chain == chain else f"{first.chain}:") + f"{first.number}-{last.number}")
        chain, position = first.chain, end + 1
    return "+".join(ranges)


def _absorb_short_runs(labels: Int[np.ndarray, " p"], chain_index: Int[np.ndarray, " p"]) -> Int[np.ndarray, " p"]:
    """Give runs shorter than ``SHORTEST_RUN`` residues the label of the longer run beside them in the chain."""
    labels = labels.copy()
    while True:
        edges = np.flatnonzero((np.diff(labels) != 0) | (np.diff(chain_index) != 0)) + 1
        starts, ends = np.r_[0, edges], np.r_[edges, len(labels)]
        lengths = ends - starts
        for run in np.argsort(lengths, kind="stable"):
            if lengths[run] >= SHORTEST_RUN:
                return labels
            beside = [
                other
                for other in (run - 1, run + 1)
                if 0 <= other < len(lengths) and chain_index[starts[other]] == chain_index[starts[run]]
            ]
            if beside:
                labels[starts[run] : ends[run]] = labels[starts[max(beside, key=lambda other: lengths[other])]]
                break
        else:
            return labels

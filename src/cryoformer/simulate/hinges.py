"""The joints between rigid domains: put where the chain is torn least, and measured where it is torn most."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cryoformer.simulate.domains import describe_residues
from cryoformer.simulate.matching import chain_index
from cryoformer.simulate.motion import MotionPath, Screw
from cryoformer.simulate.structures import AtomicModel
from cryoformer.simulate.superposition import RigidTransform, superpose

REACH = 4
"""Residues by which a joint may be shifted along the chain."""
SHORTEST_SIDE = 5
LINKED_ANGSTROM = 8.0
"""Linked C-alphas lie 3.8 A apart, phosphates 5 to 7.5 A; more is a gap in the model."""
MOMENTS = np.linspace(0.0, 1.0, 21)


@dataclass(frozen=True)
class ChainBreak:
    """The neighbours in a chain whose distance the motion changes most: the price of moving domains rigidly."""

    residues: str
    distance_angstrom: float
    distance_at_start_angstrom: float
    t: float | tuple[float, ...]
    """When; one number per coordinate where there are several."""


def settle_hinges(
    source: Float[np.ndarray, "p 3"],
    target: Float[np.ndarray, "p 3"],
    chain_index: Int[np.ndarray, " p"],
    labels: Int[np.ndarray, " p"],
) -> Int[np.ndarray, " p"]:
    """The labels with every joint shifted by a few residues to where the distance across it changes least."""
    motions = [RigidTransform(np.eye(3), np.zeros(3))]
    for label in range(1, labels.max() + 1):
        motions.append(superpose(source, target, (labels == label).astype(np.float64)))
    screws = [Screw.from_motion(motion) for motion in motions]
    settled = labels.copy()
    for joint in np.flatnonzero((np.diff(labels) != 0) & (np.diff(chain_index) == 0)):
        before, after = labels[joint], labels[joint + 1]
        low, high = _room(settled, chain_index, int(joint))
        candidates = range(low, high + 1)
        changes = [_change_across(source, screws[before], screws[after], last) for last in candidates]
        if candidates:
            last = candidates[int(np.argmin(changes))]
            settled[low : last + 1], settled[last + 1 : high + 2] = before, after
    return settled


def largest_chain_break(model: AtomicModel, path: MotionPath) -> ChainBreak | None:
    """The neighbours in a chain whose distance changes most; None where no two residues are linked."""
    atoms = model.representatives()
    index = np.flatnonzero((atoms[:-1] >= 0) & (atoms[1:] >= 0) & (np.diff(chain_index(model)) == 0))
    index = index[_gaps(model.positions_angstrom, atoms, index) < LINKED_ANGSTROM]
    if len(index) == 0:
        return None
    moments = _moments(path.coordinates)
    apart = np.stack([_gaps(path.positions(model.positions_angstrom, t), atoms, index) for t in moments])
    moment, pair = np.unravel_index(np.abs(apart - apart[0]).argmax(), apart.shape)
    ends = np.array([index[pair], index[pair] + 1])
    residues = describe_residues(model.residues, ends)
    when = tuple(moments[moment].tolist())
    return ChainBreak(residues, float(apart[moment, pair]), float(apart[0, pair]), when[0] if len(when) == 1 else when)


def _moments(coordinates: int) -> Float[np.ndarray, "k c"]:
    """Moments of the motion to look at: all coordinates together, then each alone; the first is the start."""
    together = np.repeat(MOMENTS[:, None], max(coordinates, 1), axis=1)
    alone = [together * (np.arange(coordinates) == each) for each in range(coordinates if coordinates > 1 else 0)]
    return np.concatenate([together, *alone])


def _room(labels: Int[np.ndarray, " p"], chain_index: Int[np.ndarray, " p"], joint: int) -> tuple[int, int]:
    """First and last residue that may be the last one before the joint, both sides keeping a few residues."""
    low = high = joint
    while low - SHORTEST_SIDE >= 0 and joint - low < REACH and _same(labels, chain_index, low - SHORTEST_SIDE, joint):
        low -= 1
    while (
        high + 1 + SHORTEST_SIDE < len(labels)
        and high - joint < REACH
        and _same(labels, chain_index, high + 1 + SHORTEST_SIDE, joint + 1)
    ):
        high += 1
    return low, high


def _same(labels: Int[np.ndarray, " p"], chain_index: Int[np.ndarray, " p"], i: int, j: int) -> bool:
    first, last = min(i, j), max(i, j)
    return bool(np.all(labels[first : last + 1] == labels[j]) and chain_index[i] == chain_index[j])


def _change_across(source: Float[np.ndarray, "p 3"], before: Screw, after: Screw, last: int) -> float:
    """Largest change of the distance between residue ``last`` and the next one when the joint lies between them."""
    ends = []
    for screw, point in ((before, source[last]), (after, source[last + 1])):
        rotations, translations = screw.at(MOMENTS)
        ends.append(rotations @ point + translations)
    apart = np.linalg.norm(ends[0] - ends[1], axis=1)
    return float(np.abs(apart - apart[0]).max())


def _gaps(
    positions: Float[np.ndarray, "p 3"], atoms: Int[np.ndarray, " r"], index: Int[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    return np.linalg.norm(positions[atoms[index]] - positions[atoms[index + 1]], axis=1)

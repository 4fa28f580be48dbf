"""Which residue of one atomic model is which residue of another."""

from collections.abc import Iterator
from itertools import permutations

import numpy as np
from jaxtyping import Int

from cryoformer.errors import InputError
from cryoformer.simulate.structures import AtomicModel, require_gemmi
from cryoformer.simulate.superposition import largest_rigid_body

LEAST_COMMON = 30
LEAST_IDENTITY = 0.7
"""Share of equal residue names below which two chains are not taken for the same molecule."""
CORE_TOLERANCE_ANGSTROM = 3.0
MOST_ORDERS = 24

Pairs = Int[np.ndarray, "_ 2"]


def match_residues(start: AtomicModel, other: AtomicModel) -> Pairs:
    """Pairs of polymer residues (index in ``start``, index in ``other``) that have a representative atom in both.

    A chain is matched to the chain of its name where the sequences agree, else to the most alike chain that is left.
    Within a chain residue numbers and insertion codes decide; where they do not fit, a sequence alignment.
    Where the chains of an oligomer come in another order, so that no half of the molecule superposes, other orders of
    equal chains are tried and the one with the largest common core is kept.

    Raises:
        InputError: fewer than 30 residues are common to both models.
    """
    table = _chain_table(start, other)
    pairs = _join(table, _first_order(table))
    if len(pairs) < LEAST_COMMON:
        raise InputError(
            f"{other.name}: only {len(pairs)} residues (C-alpha or phosphorus atoms) in common with {start.name}, "
            f"expected {LEAST_COMMON} or more; chains are {', '.join(start.chains()) or 'none'} there and "
            f"{', '.join(other.chains()) or 'none'} here: give models of the same molecule"
        )
    core = _core_size(start, other, pairs)
    if core < len(pairs) / 2:
        for order in _other_orders(table):
            candidate = _join(table, order)
            size = _core_size(start, other, candidate)
            if size > core:
                pairs, core = candidate, size
    return pairs


def _chain_table(start: AtomicModel, other: AtomicModel) -> dict[str, dict[str, Pairs]]:
    """For every chain of ``start``: the chains of ``other`` that are the same molecule, with their residue pairs."""
    table: dict[str, dict[str, Pairs]] = {}
    start_usable, other_usable = start.representatives() >= 0, other.representatives() >= 0
    for chain, residues in start.chains().items():
        table[chain] = {}
        for name, others in other.chains().items():
            pairs = _match_chain(start, residues[start_usable[residues]], other, others[other_usable[others]])
            if len(pairs):
                table[chain][name] = pairs
    return table


def _match_chain(
    start: AtomicModel, residues: Int[np.ndarray, " a"], other: AtomicModel, others: Int[np.ndarray, " b"]
) -> Pairs:
    """Residue pairs of two chains, by number or else by alignment; none where the sequences differ."""
    shorter = min(len(residues), len(others))
    by_number = {start.residues[i][1:3]: i for i in residues}
    numbered = [(by_number[other.residues[j][1:3]], j) for j in others if other.residues[j][1:3] in by_number]
    equal = sum(start.residues[i].name == other.residues[j].name for i, j in numbered)
    if numbered and equal >= LEAST_IDENTITY * len(numbered) and len(numbered) >= shorter / 2:
        return np.array(sorted(numbered)).reshape(-1, 2)
    aligned = _align([start.residues[i].name for i in residues], [other.residues[j].name for j in others])
    equal = sum(start.residues[residues[i]].name == other.residues[others[j]].name for i, j in aligned)
    if not aligned or equal < LEAST_IDENTITY * shorter:
        return np.zeros((0, 2), dtype=np.int64)
    return np.array([(residues[i], others[j]) for i, j in aligned]).reshape(-1, 2)


def _align(first: list[str], second: list[str]) -> list[tuple[int, int]]:
    """Positions of two lists of residue names that a global sequence alignment puts on one another."""
    if not first or not second:
        return []
    cigar = require_gemmi().align_string_sequences(first, second, []).cigar_str()
    pairs: list[tuple[int, int]] = []
    i = j = 0
    length = ""
    for sign in cigar:
        if sign.isdigit():
            length += sign
            continue
        count, length = int(length), ""
        if sign == "M":
            pairs += zip(range(i, i + count), range(j, j + count), strict=True)
        i += count if sign in "MI" else 0
        j += count if sign in "MD" else 0
    return pairs


def _first_order(table: dict[str, dict[str, Pairs]]) -> dict[str, str]:
    """A chain of ``other`` for every chain of ``start`` that has one: by name first, then the one with most pairs."""
    order = {chain: chain for chain, candidates in table.items() if chain in candidates}
    for chain, candidates in table.items():
        left = [name for name in candidates if name not in order.values()]
        if chain not in order and left:
            order[chain] = max(left, key=lambda name: len(candidates[name]))
    return order


def _other_orders(table: dict[str, dict[str, Pairs]]) -> Iterator[dict[str, str]]:
    """Other ways to give every chain a partner; none for a large oligomer, where there are too many to try."""
    order = _first_order(table)
    names = sorted({name for candidates in table.values() for name in candidates})
    tried = 0
    if len(names) > 8:
        return
    for chosen in permutations(names, len(order)):
        candidate = dict(zip(order, chosen, strict=True))
        if candidate != order and all(name in table[chain] for chain, name in candidate.items()):
            yield candidate
            tried += 1
            if tried == MOST_ORDERS:
                return


def _join(table: dict[str, dict[str, Pairs]], order: dict[str, str]) -> Pairs:
    parts = [table[chain][name] for chain, name in order.items()]
    return np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.int64)


def _core_size(start: AtomicModel, other: AtomicModel, pairs: Pairs) -> int:
    source = start.positions_angstrom[start.representatives()[pairs[:, 0]]]
    target = other.positions_angstrom[other.representatives()[pairs[:, 1]]]
    _, inside = largest_rigid_body(source, target, chain_index(start)[pairs[:, 0]], CORE_TOLERANCE_ANGSTROM, False)
    return int(inside.sum())


def chain_index(model: AtomicModel) -> Int[np.ndarray, " r"]:
    """A number for the chain of every residue."""
    return np.unique([residue.chain for residue in model.residues], return_inverse=True)[1]

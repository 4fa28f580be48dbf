"""Rigid domains: found, named, spread to the atoms without a partner."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.errors import InputError
from cryoformer.simulate.domains import describe_residues, find_domains, parse_moving, spread_labels, still_part
from cryoformer.simulate.structures import AtomicModel, Residue

from .models import blob, chain_model, turned


def three_parts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """100 residues that stand still and two domains of 40 and 30 that turn, one chain."""
    still, one, two = blob(100, seed), blob(40, seed + 1, (30, 0, 0)), blob(30, seed + 2, (0, 28, 0))
    target = np.concatenate([still, turned(one, 40, (0, 0, 1), (6, 8, 0)), turned(two, 50, (1, 0, 0), (0, 9, 9))])
    return np.concatenate([still, one, two]), target


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_domains_are_found_and_ordered_by_size(seed: int) -> None:
    source, target = three_parts(seed)
    noise = np.random.default_rng(seed).normal(0.0, 0.3, target.shape)
    labels = find_domains(source, target + noise, np.zeros(170, dtype=np.int64), 3.0)
    np.testing.assert_array_equal(labels, np.repeat([0, 1, 2], [100, 40, 30]))


def test_still_part_is_superposed_whatever_the_frame() -> None:
    source, target = three_parts(1)
    moved = turned(target, 77, (3, 1, 2), (100, -50, 30))
    back, core = still_part(source, moved, np.zeros(170, dtype=np.int64), 3.0)
    assert core[:100].all()
    np.testing.assert_allclose(back.apply(moved)[:100], source[:100], atol=0.2)


def test_a_few_stray_residues_are_no_domain() -> None:
    source, target = blob(100, 0), blob(100, 0)
    target[40:50] += 30.0
    assert not find_domains(source, target, np.zeros(100, dtype=np.int64), 3.0).any()


def test_residues_that_fit_nothing_join_what_is_around_them() -> None:
    source, target = three_parts(2)
    target[115:118] += np.array([0.0, 0.0, 40.0])
    labels = find_domains(source, target, np.zeros(170, dtype=np.int64), 3.0)
    np.testing.assert_array_equal(labels, np.repeat([0, 1, 2], [100, 40, 30]))


def test_a_far_piece_that_happens_to_move_alike_is_no_part_of_a_domain() -> None:
    still, arm, piece = blob(100, 3), blob(40, 4, (30, 0, 0)), blob(10, 5, (-60, 0, 0))
    source = np.concatenate([still, arm, piece])
    lifted = np.array([0.0, 12.0, 0.0])
    target = np.concatenate([still, arm + lifted, piece + lifted])
    labels = find_domains(source, target, np.repeat([0, 1], [140, 10]), 3.0)
    np.testing.assert_array_equal(labels, np.repeat([0, 1, 0], [100, 40, 10]))


def test_moving_parts_are_read_from_text() -> None:
    model = chain_model({"A": blob(50, 0), "B": blob(50, 1)})
    labels = parse_moving("B:3-5+11-12, A:50", model)
    expected = np.zeros(100, dtype=np.int64)
    expected[[52, 53, 54, 60, 61]] = 1
    expected[49] = 2
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("331-528", "CHAIN:FIRST-LAST"),
        ("A:x-y", "CHAIN:FIRST-LAST"),
        ("A:1-5,", "CHAIN:FIRST-LAST"),
        ("A:90-99", "no such residues"),
        ("Q:1-5", "no such residues"),
        ("A:1-5,A:5-9", "overlaps"),
    ],
)
def test_moving_parts_that_make_no_sense_are_named(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_moving(text, chain_model({"A": blob(50, 0)}))


@given(st.sets(st.integers(0, 79), min_size=1))
def test_description_reads_back_as_the_same_residues(members: set[int]) -> None:
    model = chain_model({"A": blob(40, 0), "B": blob(40, 1)}, first_number=-5)
    index = np.array(sorted(members))
    labels = parse_moving(describe_residues(model.residues, index), model)
    np.testing.assert_array_equal(np.flatnonzero(labels), index)


def test_residues_without_partner_follow_their_chain_and_ligands_their_surroundings() -> None:
    protein = chain_model({"A": np.arange(10)[:, None] * np.array([[3.8, 0.0, 0.0]])})
    # Last in the file and numbered on from the chain, but close to its beginning.
    ligand = np.array([[0.0, 3.0, 0.0]])
    model = AtomicModel(
        "with ligand",
        np.concatenate([protein.positions_angstrom, ligand]),
        (*protein.elements, "CA"),
        # A calcium ion: its name must not make it a residue of the chain.
        (*protein.atom_names, "CA"),
        np.arange(11),
        (*protein.residues, Residue("A", 11, "", "CA", False)),
    )
    assert model.representatives()[10] == -1
    spread = spread_labels(model, np.array([0, 1, 2, 7, 8]), np.array([0, 0, 0, 1, 1]))
    np.testing.assert_array_equal(spread, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0])

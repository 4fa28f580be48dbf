"""Which residue of one model is which of another."""

import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.simulate.matching import match_residues
from cryoformer.simulate.structures import AtomicModel, adk_models, read_models

from .models import blob, chain_model, turned


def trimer() -> dict[str, np.ndarray]:
    """Three equal chains around an axis, far enough apart that only one order of them superposes."""
    one = blob(60, 0, centre=(25, 0, 0))
    spun = [np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) for a in (0, 2.2, 4.4)]
    return {name: one @ rotation.T for name, rotation in zip("ABC", spun, strict=True)}


def test_same_names_and_numbers_match_one_to_one() -> None:
    model = chain_model(trimer())
    np.testing.assert_array_equal(match_residues(model, model), np.stack([np.arange(180)] * 2, axis=1))


def test_another_chain_name_and_numbering_are_matched_by_sequence() -> None:
    points = blob(60, 0)
    start, other = chain_model({"A": points}), chain_model({"X": points}, first_number=300)
    np.testing.assert_array_equal(match_residues(start, other), np.stack([np.arange(60)] * 2, axis=1))


def test_missing_residues_are_aligned_around() -> None:
    points = blob(60, 0)
    start, whole = chain_model({"A": points}), chain_model({"X": points}, first_number=300)
    kept = np.r_[3:30, 38:60]
    other = AtomicModel(
        "gap",
        points[kept],
        ("C",) * len(kept),
        ("CA",) * len(kept),
        np.arange(len(kept)),
        # Numbered without a gap, so that only the sequence tells.
        tuple(whole.residues[i]._replace(number=n) for n, i in enumerate(kept)),
    )
    pairs = match_residues(start, other)
    # Around the gap the alignment may put a residue on either side of it.
    assert len(pairs) == len(kept)
    assert np.mean(pairs[:, 0] == kept[pairs[:, 1]]) > 0.9


def test_chains_in_another_order_are_found_by_what_superposes() -> None:
    chains = trimer()
    start = chain_model(chains)
    swapped = chain_model({"A": chains["B"], "B": chains["A"], "C": chains["C"]})
    moved = AtomicModel(
        "swapped",
        turned(swapped.positions_angstrom, 50, (1, 1, 0), (10, 0, 5)),
        swapped.elements,
        swapped.atom_names,
        swapped.atom_residue,
        swapped.residues,
    )
    pairs = match_residues(start, moved)
    partner = dict(pairs.tolist())
    assert [partner[i] for i in (0, 60, 120)] == [60, 0, 120]


def test_one_chain_finds_its_partner_among_several() -> None:
    closed = read_models(adk_models()[:1])[0]
    rename = tuple(residue._replace(chain="Z") for residue in closed.residues)
    other = AtomicModel("Z", closed.positions_angstrom, closed.elements, closed.atom_names, closed.atom_residue, rename)
    assert len(match_residues(closed, other)) == 214


def test_different_molecules_are_refused_by_name() -> None:
    start = chain_model({"A": blob(60, 0)}, name="start.cif")
    backwards = tuple(
        residue._replace(name=twin.name) for residue, twin in zip(start.residues, start.residues[::-1], strict=True)
    )
    other = AtomicModel(
        "end.cif", start.positions_angstrom, start.elements, start.atom_names, start.atom_residue, backwards
    )
    with pytest.raises(InputError, match=r"end\.cif: only 0 residues .* in common with start\.cif"):
        match_residues(start, other)


def test_models_too_small_to_compare_are_refused() -> None:
    with pytest.raises(InputError, match="expected 30 or more"):
        match_residues(chain_model({"A": blob(20, 0)}), chain_model({"A": blob(20, 0)}))

"""Which atoms a particle has, and which domains move on their own."""

import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.simulate.hinges import largest_chain_break
from cryoformer.simulate.simulate_config import Composition, SimulateConfig
from cryoformer.simulate.specimen import Specimen, build_specimen, present_atoms
from cryoformer.simulate.structures import AtomicModel, Residue, adk_models, read_models

LID, NMP = range(125, 155), range(35, 60)


def specimen(models: int = 2, **changes: object) -> Specimen:
    files = (adk_models() * 2)[:models]
    settings = {"models": files, "out": "x", "images": 1, "box": 32, "pixel_size_angstrom": 3.0, "snr": 1.0}
    return build_specimen(SimulateConfig(**settings | changes), read_models(files))


def numbers(model: AtomicModel) -> np.ndarray:
    """Residue number of every atom."""
    return np.array([model.residues[index].number for index in model.atom_residue])


def test_every_domain_follows_its_own_coordinate() -> None:
    both = specimen(independent_domains=True)
    assert both.path.coordinates == 2
    start, number = both.model.positions_angstrom, numbers(both.model)
    for coordinates, moving, still in (((1.0, 0.0), LID, NMP), ((0.0, 1.0), NMP, LID)):
        moved = np.linalg.norm(both.path.positions(start, np.array(coordinates)) - start, axis=1)
        assert moved[np.isin(number, moving)].min() > 2.0
        assert moved[np.isin(number, still)].max() < 1e-9
    together = specimen()
    assert together.path.coordinates == 1
    np.testing.assert_array_equal(together.path.positions(start, 0.3), both.path.positions(start, np.full(2, 0.3)))


def test_named_domains_move_independently_through_several_models() -> None:
    named = specimen(models=3, independent_domains=True, moving="A:117-163,A:30-68")
    start, number = named.model.positions_angstrom, numbers(named.model)
    moved = np.linalg.norm(named.path.positions(start, np.array([0.5, 1.0])) - start, axis=1)
    # Closed, open, closed again: halfway the LID is open, and the NMP-binding domain has come back.
    assert moved[np.isin(number, LID)].mean() > 8.0
    assert moved[np.isin(number, NMP)].max() < 1.0


@pytest.mark.parametrize(
    ("models", "changes", "complaint"),
    [
        (1, {}, "0 domain moves"),
        (2, {"moving": "A:117-163"}, "1 domain moves"),
        (3, {}, "between more than two models"),
    ],
)
def test_domains_that_cannot_move_independently_are_refused(models: int, changes: dict, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        specimen(models=models, independent_domains=True, **changes)


def test_the_chain_is_also_looked_at_where_one_domain_moves_alone() -> None:
    alone, together = specimen(independent_domains=True), specimen()
    worst, joint = (largest_chain_break(each.model, each.path) for each in (alone, together))
    assert worst is not None
    assert joint is not None
    assert isinstance(worst.t, tuple)
    assert isinstance(joint.t, float)
    change = [abs(each.distance_angstrom - each.distance_at_start_angstrom) for each in (worst, joint)]
    assert change[0] >= change[1] - 1e-9


def test_compositions_lack_the_residues_they_name_and_nothing_else() -> None:
    (model,) = read_models(adk_models()[1:])
    parts = [Composition(weight=1), Composition(weight=1, without="A:117-163+30-40,A:1-3")]
    whole, part = present_atoms(model, parts)
    missing = np.isin(numbers(model), [*range(117, 164), *range(30, 41), *range(1, 4)])
    assert whole.all()
    np.testing.assert_array_equal(part, ~missing)
    assert present_atoms(model, []).shape == (1, len(model.elements))


def test_a_state_has_the_atoms_of_its_composition_where_its_coordinates_put_them() -> None:
    made = specimen(compositions=[{"weight": 1}, {"weight": 1, "without": "A:30-68"}])
    model, positions = made.state(np.array([0.4]), 1)
    assert not set(numbers(model)) & set(range(30, 69))
    assert len(model.elements) == len(model.atom_names) == len(positions) == made.present[1].sum()
    kept = made.path.positions(made.model.positions_angstrom, 0.4)[made.present[1]]
    np.testing.assert_array_equal(positions, kept)
    assert model.elements == tuple(np.array(made.model.elements)[made.present[1]])


def test_a_ligand_is_missing_with_what_it_is_bound_to() -> None:
    points = np.arange(20.0)[:, None] * np.array([3.8, 0.0, 0.0])
    residues = [Residue("A", number, "", "ALA", True) for number in range(1, 21)]
    residues += [Residue("X", 1, "", "NAG", False), Residue("X", 2, "", "NAG", False)]
    ligands = points[[18, 2]] + np.array([0.0, 4.0, 0.0])
    names = ("CA",) * 20 + ("C1",) * 2
    model = AtomicModel("m", np.concatenate([points, ligands]), ("C",) * 22, names, np.arange(22), tuple(residues))
    (present,) = present_atoms(model, [Composition(weight=1, without="A:15-20")])
    assert np.flatnonzero(~present).tolist() == [14, 15, 16, 17, 18, 19, 20]


@pytest.mark.parametrize(
    ("without", "complaint"),
    [("A:500-600", "missing part 'A:500-600': .* no such residues"), ("A:1-214", "is all of"), ("30-68", "CHAIN:")],
)
def test_impossible_compositions_are_named(without: str, complaint: str) -> None:
    (model,) = read_models(adk_models()[:1])
    with pytest.raises(InputError, match=complaint):
        present_atoms(model, [Composition(weight=1, without=without)])


def test_a_missing_part_does_not_move() -> None:
    parts = [{"weight": 1}, {"weight": 1, "without": "A:110-170"}, {"weight": 1, "without": "A:110-140"}]
    both = specimen(independent_domains=True, compositions=parts)
    np.testing.assert_array_equal(both.moving(), [[True, True], [False, True], [True, True]])
    np.testing.assert_array_equal(specimen(compositions=parts).moving(), [[True]] * 3)
    assert specimen(models=1, compositions=parts).moving().shape == (3, 0)

"""Reading and writing atomic models."""

import sys
from pathlib import Path

import gemmi
import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.simulate.structures import adk_models, read_models, write_model

PDB_ATOM = (
    "{kind:<6}{serial:>5} {name:<4}{alt}{residue:>3} {chain}{number:>4}    {x:8.3f}{y:8.3f}{z:8.3f}"
    "  1.00 20.00          {element:>2}\n"
)


def pdb(path: Path, *atoms: dict) -> Path:
    defaults = {"kind": "ATOM", "alt": " ", "residue": "GLY", "chain": "A", "number": 1, "x": 0.0, "y": 0.0, "z": 0.0}
    lines = [PDB_ATOM.format(**defaults | {"serial": number} | atom) for number, atom in enumerate(atoms, start=1)]
    path.write_text("".join(lines) + "END\n")
    return path


def test_shipped_adenylate_kinase_is_whole() -> None:
    closed, opened = read_models(adk_models())
    for model in (closed, opened):
        assert len(model.elements) == 1656
        assert len(model.residues) == 214
        assert (model.representatives() >= 0).all()
        assert set(model.elements) == {"C", "N", "O", "S"}
    sequence = [residue.name for residue in closed.residues]
    assert sequence == [residue.name for residue in opened.residues]
    assert sequence[:6] == ["MET", "ARG", "ILE", "ILE", "LEU", "LEU"]
    # Bonded neighbours: C-alphas of a chain are 3.8 A apart (2.9 A at a cis peptide).
    for model in (closed, opened):
        steps = np.linalg.norm(np.diff(model.positions_angstrom[model.representatives()], axis=0), axis=1)
        assert steps.min() > 2.7
        assert steps.max() < 4.1


def test_shipped_adenylate_kinase_equals_the_entries(shared_data: Path) -> None:
    """1AKE in the entry's frame; 4AKE the same up to a turn and a shift."""
    from cryoformer.simulate.superposition import superpose

    for mine, entry in zip(adk_models(), ("1ake.pdb", "4ake.cif"), strict=True):
        ours, theirs = read_models([mine, shared_data / "structures" / entry], chains=["A"])
        assert ours.atom_names == theirs.atom_names[: len(ours.atom_names)]
        theirs_a = theirs.positions_angstrom[: len(ours.elements)]
        moved = superpose(ours.positions_angstrom, theirs_a).apply(ours.positions_angstrom)
        np.testing.assert_allclose(moved, theirs_a, atol=2e-3)


def test_waters_hydrogens_and_second_conformations_are_dropped(tmp_path: Path) -> None:
    path = pdb(
        tmp_path / "a.pdb",
        {"name": " N", "element": "N"},
        {"name": " CA", "element": "C", "alt": "A", "x": 1.0},
        {"name": " CA", "element": "C", "alt": "B", "x": 9.0},
        {"name": " HA", "element": "H"},
        # The same name again without a label, as some programs leave it.
        {"name": " N", "element": "N", "x": 7.0},
        {"kind": "HETATM", "name": " O", "element": "O", "residue": "HOH", "number": 9},
    )
    (model,) = read_models([path])
    assert model.atom_names == ("N", "CA")
    np.testing.assert_array_equal(model.positions_angstrom[:, 0], [0.0, 1.0])
    (with_hydrogens,) = read_models([path], hydrogens=True)
    assert with_hydrogens.atom_names == ("N", "CA", "HA")


def test_of_two_residues_in_one_place_the_first_stays(tmp_path: Path) -> None:
    path = pdb(
        tmp_path / "a.pdb",
        {"name": " CA", "element": "C", "alt": "A", "residue": "SER"},
        {"name": " CA", "element": "C", "alt": "B", "residue": "THR", "x": 0.5},
    )
    (model,) = read_models([path])
    assert [residue.name for residue in model.residues] == ["SER"]


def test_every_model_of_a_file_is_a_keyframe(tmp_path: Path) -> None:
    structure = gemmi.read_structure(str(adk_models()[0]))
    structure.add_model(structure[0].clone())
    structure.renumber_models()
    structure.make_mmcif_document().write_file(str(tmp_path / "two.cif"))
    models = read_models([tmp_path / "two.cif", adk_models()[1]])
    assert [model.name for model in models] == ["two.cif, model 1", "two.cif, model 2", "adk_4ake_A.cif"]


def test_written_model_reads_back(tmp_path: Path) -> None:
    (model,) = read_models(adk_models()[:1])
    shifted = model.positions_angstrom + np.array([1.0, 2.0, 3.0])
    write_model(tmp_path / "state_00.cif", model, shifted)
    (again,) = read_models([tmp_path / "state_00.cif"])
    assert (again.atom_names, again.elements, again.residues) == (model.atom_names, model.elements, model.residues)
    np.testing.assert_allclose(again.positions_angstrom, shifted, atol=1e-3)


def test_ligands_keep_their_place_and_kind(tmp_path: Path) -> None:
    path = pdb(
        tmp_path / "a.pdb",
        {"name": " CA", "element": "C"},
        {"name": " CA", "element": "C", "number": 2},
        {"kind": "HETATM", "name": "CA", "element": "CA", "residue": " CA", "chain": "B", "number": 301, "x": 5.0},
    )
    (model,) = read_models([path])
    write_model(tmp_path / "b.cif", model, model.positions_angstrom)
    (again,) = read_models([tmp_path / "b.cif"])
    assert again.residues[2][:4] == ("B", 301, "", "CA")
    assert not again.residues[2].polymer
    assert again.elements[2] == "Ca"


def test_chains_are_chosen_from_the_first_model_only(tmp_path: Path) -> None:
    atoms = [{"name": " CA", "element": "C", "chain": chain, "number": n} for chain in "AB" for n in (1, 2)]
    first, second = pdb(tmp_path / "a.pdb", *atoms), pdb(tmp_path / "b.pdb", *atoms)
    models = read_models([first, second], chains=["B"])
    assert [list(model.chains()) for model in models] == [["B"], ["A", "B"]]
    with pytest.raises(InputError, match=r"a\.pdb: has no chain Q; its chains are A, B"):
        read_models([first], chains=["Q"])


@pytest.mark.parametrize("name", ["model.pdb", "model.cif"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\x01 nonsense", b"data_x\nloop_\n_atom_site.id\n1 2 3\n"])
def test_files_that_are_no_models_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{name}.*expected"):
        read_models([path])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.cif: no such file"):
        read_models([tmp_path / "nowhere.cif"])


def test_atom_of_unknown_element_is_named(tmp_path: Path) -> None:
    path = pdb(tmp_path / "a.pdb", {"name": " CA", "element": "C"}, {"name": " Q1", "element": "X", "number": 2})
    with pytest.raises(InputError, match=r"a\.pdb: atom Q1 of A .* no known element"):
        read_models([path])


def test_nothing_but_water_is_refused(tmp_path: Path) -> None:
    path = pdb(tmp_path / "a.pdb", {"kind": "HETATM", "name": " O", "element": "O", "residue": "HOH"})
    with pytest.raises(InputError, match="no atoms are left"):
        read_models([path])


def test_missing_gemmi_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(InputError, match=r"cryoformer\[simulate\]"):
        read_models(adk_models())

"""Atomic models: read from PDB or mmCIF files, written back as mmCIF (both by gemmi, an optional extra)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cryoformer.errors import InputError

REPRESENTATIVES = ("CA", "P", "C1'")
"""The atom that stands for a residue when parts are compared: C-alpha, else phosphorus or the sugar's C1'."""


class Residue(NamedTuple):
    """Identity of a residue; ``insertion`` is the insertion code or an empty string."""

    chain: str
    number: int
    insertion: str
    name: str
    polymer: bool


@dataclass(frozen=True)
class AtomicModel:
    """One conformation of a molecule: p atoms in r residues, in the order of the file."""

    name: str
    positions_angstrom: Float[np.ndarray, "p 3"]
    elements: tuple[str, ...]
    atom_names: tuple[str, ...]
    atom_residue: Int[np.ndarray, " p"]
    residues: tuple[Residue, ...]

    def representatives(self) -> Int[np.ndarray, " r"]:
        """Index of the C-alpha (or phosphorus, or C1') of every polymer residue; -1 where it has none."""
        found = np.full(len(self.residues), -1)
        rank = np.full(len(self.residues), len(REPRESENTATIVES))
        for atom, (name, residue) in enumerate(zip(self.atom_names, self.atom_residue, strict=True)):
            # A calcium ion is called CA too, but belongs to no polymer.
            if not self.residues[residue].polymer or name not in REPRESENTATIVES:
                continue
            if REPRESENTATIVES.index(name) < rank[residue]:
                found[residue], rank[residue] = atom, REPRESENTATIVES.index(name)
        return found

    def part(self, atoms: Bool[np.ndarray, " p"]) -> "AtomicModel":
        """Some of the atoms; the list of residues stays, so that their numbers stay."""
        kept = np.flatnonzero(atoms)
        return AtomicModel(
            self.name,
            self.positions_angstrom[kept],
            tuple(self.elements[atom] for atom in kept),
            tuple(self.atom_names[atom] for atom in kept),
            self.atom_residue[kept],
            self.residues,
        )

    def chains(self) -> dict[str, Int[np.ndarray, " c"]]:
        """Indices of the polymer residues of every chain that has any."""
        members: dict[str, list[int]] = {}
        for index, residue in enumerate(self.residues):
            if residue.polymer:
                members.setdefault(residue.chain, []).append(index)
        return {chain: np.array(indices) for chain, indices in members.items()}


PACKAGE_MODELS = {"adk_closed": "adk_1ake_A.cif", "adk_open": "adk_4ake_A.cif"}
"""Models that come with the package, by the names that settings may use instead of a file."""


def adk_models() -> tuple[Path, Path]:
    """The adenylate kinase models that come with the package: closed (1AKE chain A) and open (4AKE chain A)."""
    return find_model("adk_closed"), find_model("adk_open")


def find_model(name: Path | str) -> Path:
    """The file of a model that comes with the package; anything else is a file already."""
    if str(name) not in PACKAGE_MODELS:
        return Path(name)
    return Path(str(resources.files("cryoformer") / "data")) / PACKAGE_MODELS[str(name)]


def read_models(paths: Iterable[Path | str], chains: Sequence[str] = (), hydrogens: bool = False) -> list[AtomicModel]:
    """All models of all files, in order: the keyframes of a path.

    Waters are dropped, hydrogens too unless asked for, and of alternative conformations the first is kept.
    ``chains`` restricts the first model, whose atoms are the ones that move; the others only say where to.

    Raises:
        InputError: gemmi is missing; a file is missing, unreadable, without atoms or without these chains.
    """
    models: list[AtomicModel] = []
    for path in paths:
        structure = _read_structure(Path(path))
        for number, model in enumerate(structure, start=1):
            name = Path(path).name + (f", model {number}" if len(structure) > 1 else "")
            models.append(_atomic_model(model, name, () if models else chains, hydrogens))
    return models


def write_model(path: Path | str, model: AtomicModel, positions_angstrom: Float[np.ndarray, "p 3"]) -> None:
    """Write the model's atoms at other positions as mmCIF."""
    gemmi = require_gemmi()
    structure = gemmi.Structure()
    structure.name = Path(path).stem
    target = structure.add_model(gemmi.Model(1))
    chain: Any = None
    residue: Any = None
    previous = -1
    for atom, index in enumerate(model.atom_residue):
        identity = model.residues[index]
        if chain is None or chain.name != identity.chain:
            chain, previous = target.add_chain(gemmi.Chain(identity.chain)), -1
        if index != previous:
            residue = chain.add_residue(_gemmi_residue(gemmi, identity))
            previous = index
        added = gemmi.Atom()
        added.name, added.element = model.atom_names[atom], gemmi.Element(model.elements[atom])
        added.pos = gemmi.Position(*positions_angstrom[atom])
        residue.add_atom(added)
    structure.merge_chain_parts()
    structure.setup_entities()
    groups = gemmi.MmcifOutputGroups(True, cell=False, symmetry=False)
    structure.make_mmcif_document(groups).write_file(str(path))


def require_gemmi() -> ModuleType:
    """The gemmi module.

    Raises:
        InputError: it is not installed.
    """
    try:
        import gemmi
    except ImportError as error:
        raise InputError(
            "simulating from atomic models needs gemmi, which is not installed: pip install 'cryoformer[simulate]'"
        ) from error
    return gemmi


def _read_structure(path: Path) -> Any:
    gemmi = require_gemmi()
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an atomic model in PDB or mmCIF format")
    try:
        structure = gemmi.read_structure(str(path), merge_chain_parts=True)
    except (RuntimeError, ValueError, IndexError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as an atomic model ({reason}); expected PDB or mmCIF") from error
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise InputError(f"{path}: holds no atoms; expected an atomic model in PDB or mmCIF format")
    structure.setup_entities()
    # Also where a program dropped the labels of the conformations but kept the atoms: the first of a name stays.
    structure.remove_alternative_conformations()
    structure.remove_waters()
    return structure


def _atomic_model(model: Any, name: str, chains: Sequence[str], hydrogens: bool) -> AtomicModel:
    gemmi = require_gemmi()
    present = [chain.name for chain in model]
    missing = [chain for chain in chains if chain not in present]
    if missing:
        raise InputError(f"{name}: has no chain {', '.join(missing)}; its chains are {', '.join(present)}")
    positions: list[list[float]] = []
    elements, atom_names, atom_residue = [], [], []
    residues: list[Residue] = []
    for chain in model:
        if chains and chain.name not in chains:
            continue
        for residue in chain:
            first_atom = len(positions)
            for atom in residue:
                if atom.is_hydrogen() and not hydrogens:
                    continue
                if atom.element.atomic_number == 0:
                    raise InputError(f"{name}: atom {atom.name} of {chain.name} {residue} has no known element")
                positions.append(atom.pos.tolist())
                elements.append(atom.element.name)
                atom_names.append(atom.name)
                atom_residue.append(len(residues))
            if len(positions) > first_atom:
                polymer = residue.entity_type == gemmi.EntityType.Polymer
                insertion = residue.seqid.icode.strip()
                residues.append(Residue(chain.name, residue.seqid.num, insertion, residue.name, polymer))
    if not positions:
        raise InputError(f"{name}: no atoms are left after dropping waters and hydrogens; expected a molecule")
    return AtomicModel(
        name, np.array(positions), tuple(elements), tuple(atom_names), np.array(atom_residue), tuple(residues)
    )


def _gemmi_residue(gemmi: ModuleType, identity: Residue) -> Any:
    residue = gemmi.Residue()
    residue.name = identity.name
    residue.seqid = gemmi.SeqId(identity.number, identity.insertion or " ")
    residue.entity_type = gemmi.EntityType.Polymer if identity.polymer else gemmi.EntityType.NonPolymer
    return residue

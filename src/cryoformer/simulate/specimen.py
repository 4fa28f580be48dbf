"""What is in the ice: the molecule, the path on which it moves, and the compositions that it comes in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cryoformer.errors import InputError
from cryoformer.simulate.domains import named_domains
from cryoformer.simulate.keyframes import SegmentReport, build_path
from cryoformer.simulate.motion import MotionPath
from cryoformer.simulate.simulate_config import Composition, SimulateConfig
from cryoformer.simulate.structures import AtomicModel


@dataclass(frozen=True)
class Specimen:
    """A molecule of p atoms in k compositions: ``present`` says which atoms each of them has."""

    model: AtomicModel
    path: MotionPath
    segments: tuple[SegmentReport, ...]
    present: Bool[np.ndarray, "k p"]

    def moving(self) -> Bool[np.ndarray, "k c"]:
        """Whether a composition has any of the atoms that move along a coordinate; no columns where nothing moves."""
        path = self.path
        along = path.group_coordinate or (0,) * path.groups
        columns = []
        for coordinate in range(path.coordinates):
            groups = [
                group
                for group in range(path.groups)
                if along[group] == coordinate and any(segment[group] is not None for segment in path.screws)
            ]
            columns.append(self.present[:, np.isin(path.atom_group, groups)].any(axis=1))
        return np.array(columns, dtype=bool).reshape(path.coordinates, len(self.present)).T

    def state(
        self, coordinates: Float[np.ndarray, " c"], composition: int
    ) -> tuple[AtomicModel, Float[np.ndarray, "q 3"]]:
        """The atoms of one composition, and where they are at these coordinates, in the frame of the first model."""
        atoms = self.present[composition]
        return self.model.part(atoms), self.path.positions(self.model.positions_angstrom, coordinates)[atoms]


def build_specimen(config: SimulateConfig, models: Sequence[AtomicModel]) -> Specimen:
    """The specimen that the settings describe, from the models they name.

    Raises:
        InputError: the models do not fit together, domains cannot move independently, or a composition names residues
            that are not there or leaves nothing.
    """
    path, segments = build_path(models, config.moving, config.tolerance_angstrom)
    if config.independent_domains:
        path = _independent(path, config)
    return Specimen(models[0], path, segments, present_atoms(models[0], config.compositions))


def present_atoms(model: AtomicModel, compositions: Sequence[Composition]) -> Bool[np.ndarray, "k p"]:
    """Which atoms each composition has (one row with all, without compositions).

    Ligands and sugars that are not named are missing together with the residues that they are nearest to.

    Raises:
        InputError: residues that the model does not have, or nothing that is left.
    """
    rows = [np.ones(len(model.elements), dtype=bool)]
    for composition in compositions:
        missing = np.zeros(len(model.residues), dtype=bool)
        if composition.without is not None:
            missing = named_domains(composition.without, model, "missing part") > 0
        rows.append(~missing[model.atom_residue])
        if not rows[-1].any():
            raise InputError(f"missing part {composition.without!r} is all of {model.name}: name fewer residues")
    return np.stack(rows[1:] or rows)


def _independent(path: MotionPath, config: SimulateConfig) -> MotionPath:
    if len(path.screws) > 1 and config.moving is None:
        raise InputError(
            "independent_domains: between more than two models, domains that are found may differ from step to step; "
            "name them (--moving CHAIN:FIRST-LAST,CHAIN:FIRST-LAST), or give two models"
        )
    independent = path.independent()
    if independent.coordinates < 2:
        raise InputError(
            f"independent_domains: {independent.coordinates} domain moves, and two are needed; name them "
            "(--moving CHAIN:FIRST-LAST,CHAIN:FIRST-LAST), or leave the setting out"
        )
    return independent

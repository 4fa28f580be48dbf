"""Point groups: closed, searched once, and imposed on what is added up."""

import pytest
import torch

from cryoformer.errors import InputError
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.imaging.slices import SlicePlane
from cryoformer.poses.matching import views
from cryoformer.poses.stochastic_em import DecayingEquations
from cryoformer.poses.symmetry import in_asymmetric_unit, rotation_group

ORDERS = {"C1": 1, "C4": 4, "d2": 4, "D7": 14, "T": 12, "O": 24, "I": 60}


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_groups_are_closed_and_their_asymmetric_unit_holds_every_view_once(name: str, order: int) -> None:
    group = rotation_group(name)
    assert len(group) == order
    torch.testing.assert_close(group[0], torch.eye(3))
    products = torch.einsum("aij,bjk->abik", group, group).reshape(-1, 1, 9)
    assert (products - group.reshape(1, -1, 9)).abs().amax(dim=2).amin(dim=1).max() < 1e-5
    rotations = torch.tensor(uniform_rotations(200, seed=1)).float()
    equivalent = torch.einsum("rij,gjk->rgik", rotations, group)
    inside = in_asymmetric_unit(equivalent.reshape(-1, 3, 3), group).view(200, order)
    assert (inside.sum(dim=1) == 1).all()


@pytest.mark.parametrize("name", ["X3", "C0", "D", "C", "I2"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"--symmetry {name}: expected"):
        rotation_group(name)


def test_what_is_added_up_gets_the_symmetry_of_the_group() -> None:
    box, group = 16, rotation_group("D2")
    points = grid_points(box, 1.0)
    lopsided = torch.exp(-(points - torch.tensor([4.0, 1.0, 2.0])).square().sum(dim=1) / 4).reshape(box, box, box)
    plane = SlicePlane.of_box(box)
    rotations = torch.tensor(uniform_rotations(400, seed=2)).float()
    slices = views(lopsided, plane, rotations)
    sums = DecayingEquations(box, group)
    sums.add(plane, rotations, slices, torch.ones(slices.shape))
    found = sums.solve(box / 2 - 1)[1:, 1:, 1:]
    # Two-fold axes along z and x, [z, y, x].
    for axes in ((1, 2), (0, 1)):
        torch.testing.assert_close(found.flip(*axes), found, atol=0.02 * float(found.max()), rtol=0)
    alone = DecayingEquations(box, group[:1])
    alone.add(plane, rotations, slices, torch.ones(slices.shape))
    assert float((alone.solve(box / 2 - 1) * lopsided).sum()) > 2 * float((sums.solve(box / 2 - 1) * lopsided).sum())

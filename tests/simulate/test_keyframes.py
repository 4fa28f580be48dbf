"""Motion paths of real and made-up molecules: what moves, how far, and what stays."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from cryoformer.errors import InputError
from cryoformer.simulate.hinges import largest_chain_break
from cryoformer.simulate.keyframes import build_path
from cryoformer.simulate.structures import AtomicModel, Residue, adk_models, read_models

from .models import blob, chain_model, turned


def numbers(model: AtomicModel, path_group: np.ndarray, chain: str = "A") -> set[int]:
    """Residue numbers of the moving atoms of one chain."""
    moving = {model.residues[i] for i in model.atom_residue[path_group > 0]}
    return {residue.number for residue in moving if residue.chain == chain}


def moving_atoms(model: AtomicModel, path) -> np.ndarray:
    end = path.positions(model.positions_angstrom, 1.0)
    return np.linalg.norm(end - model.positions_angstrom, axis=1) > 1e-6


def test_adenylate_kinase_opens_its_lid_and_its_nmp_domain() -> None:
    """Literature: LID 118-160, NMP-binding domain 30-59 (Vonrhein, Schlauderer & Schulz, Structure 3 (1995) 483)."""
    models = read_models(adk_models())
    path, (report,) = build_path(models)
    lid, nmp = report.domains
    assert report.common_residues == 214
    assert 100 <= report.core_residues <= 140
    moving = numbers(models[0], moving_atoms(models[0], path).astype(int))
    assert set(range(121, 158)) | set(range(33, 58)) <= moving
    assert not moving & (set(range(1, 26)) | set(range(75, 112)) | set(range(170, 215)))
    assert 40 < lid.rotation_degrees < 60
    assert 35 < nmp.rotation_degrees < 55
    assert 10 < lid.centroid_displacement_angstrom < 16
    assert lid.fit_rms_angstrom < 2.0
    assert nmp.fit_rms_angstrom < 2.0


def test_bond_lengths_hold_and_the_chain_stays_together() -> None:
    models = read_models(adk_models())
    path, _ = build_path(models)
    start = models[0].positions_angstrom
    for t in (0.25, 0.5, 1.0):
        moved = path.positions(start, t)
        for group in range(path.groups):
            members = path.atom_group == group
            np.testing.assert_allclose(pdist(moved[members]), pdist(start[members]), atol=1e-6)
    worst = largest_chain_break(models[0], path)
    assert worst is not None
    assert abs(worst.distance_angstrom - worst.distance_at_start_angstrom) < 3.0


def test_way_there_and_way_back_agree() -> None:
    closed, opened = read_models(adk_models())
    there, (forth,) = build_path([closed, opened])
    _, (back,) = build_path([opened, closed])
    for one, other in zip(forth.domains, back.domains, strict=True):
        assert one.rotation_degrees == pytest.approx(other.rotation_degrees, abs=3.0)
        assert one.centroid_displacement_angstrom == pytest.approx(other.centroid_displacement_angstrom, abs=1.5)
    assert there.groups == 3


def test_open_closed_open_comes_back_to_the_start() -> None:
    closed, opened = read_models(adk_models())
    path, reports = build_path([closed, opened, closed])
    assert len(reports) == 2
    start = closed.positions_angstrom
    assert np.linalg.norm(path.positions(start, 0.5) - start, axis=1).max() > 15
    returned = np.linalg.norm(path.positions(start, 1.0) - start, axis=1)
    assert np.sqrt(np.mean(returned**2)) < 1.0


def test_spike_raises_one_receptor_binding_domain(shared_data: Path) -> None:
    models = read_models([shared_data / "structures" / name for name in ("6vxx.pdb", "6vyb.pdb")])
    path, (report,) = build_path(models)
    (domain,) = report.domains
    assert report.core_rms_angstrom < 1.0
    moving = moving_atoms(models[0], path).astype(int)
    assert numbers(models[0], moving, "A") == numbers(models[0], moving, "C") == set()
    moved = numbers(models[0], moving, "B")
    assert set(range(345, 440)) < moved
    assert not moved - set(range(325, 535))
    assert domain.mean_displacement_angstrom == pytest.approx(22.7, abs=1.0)

    _, (named,) = build_path(models, moving="B:331-528")
    assert named.domains[0].residues == "B:331-528"
    assert named.domains[0].rotation_degrees == pytest.approx(domain.rotation_degrees, abs=1.0)


def made_up(degrees: float) -> tuple[AtomicModel, AtomicModel]:
    still, arm = blob(80, 0), blob(40, 1, (30, 0, 0))
    start = chain_model({"A": np.concatenate([still, arm])}, name="start")
    end = np.concatenate([still, turned(arm, degrees, (0, 0, 1), (0, degrees / 5, 0))])
    return start, chain_model({"A": turned(end, 100, (1, 2, 3), (40, 0, 0))}, name="end")


def test_named_parts_move_whatever_would_be_found() -> None:
    start, end = made_up(40)
    path, (report,) = build_path([start, end], moving="A:85-120")
    np.testing.assert_array_equal(moving_atoms(start, path), np.arange(120) >= 84)
    assert report.domains[0].rotation_degrees == pytest.approx(40, abs=0.5)
    assert report.domains[0].fit_rms_angstrom < 0.1


def test_a_sugar_goes_with_the_part_it_sits_on() -> None:
    start, end = made_up(40)
    start = AtomicModel(
        "with sugars",
        np.concatenate([start.positions_angstrom, start.positions_angstrom[[100, 20]] + 1.5]),
        (*start.elements, "C", "C"),
        (*start.atom_names, "C1", "C1"),
        np.arange(122),
        (*start.residues, Residue("S", 1, "", "NAG", False), Residue("S", 2, "", "NAG", False)),
    )
    for moving in ("A:85-120", None):
        path, _ = build_path([start, end], moving=moving)
        assert moving_atoms(start, path)[120:].tolist() == [True, False]


def test_a_small_motion_is_found_with_a_finer_tolerance() -> None:
    start, end = made_up(20)
    path, _ = build_path([start, end])
    moving = moving_atoms(start, path)
    assert moving[90:].all()
    assert not moving[:75].any()


def test_models_that_do_not_differ_are_refused() -> None:
    start, end = made_up(0)
    with pytest.raises(InputError, match="end: found nothing that moves between start and this model"):
        build_path([start, end])


def test_one_model_stands_still() -> None:
    start, _ = made_up(0)
    path, reports = build_path([start])
    assert reports == ()
    np.testing.assert_array_equal(path.positions(start.positions_angstrom, 1.0), start.positions_angstrom)
    with pytest.raises(InputError, match="the only model"):
        build_path([start], moving="A:1-5")


@pytest.mark.parametrize(("moving", "complaint"), [("A:1-120", "nothing that stands still"), ("A:1-2", "fewer than 4")])
def test_named_parts_that_leave_no_motion_to_fit_are_refused(moving: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        build_path(made_up(40), moving=moving)

"""Named selections: kept inside the run, exported with every column of the input."""

import os
from pathlib import Path

import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.explore.view.selections import Selections
from cryoformer.formats.load import load_particles, open_particle_file


@pytest.fixture
def selections(own_run: Path, made_run: Path) -> Selections:
    return Selections(own_run, lambda: open_particle_file(made_run.parent / "particles.star"), 100)


def test_rows_are_saved_sorted_and_once(selections: Selections) -> None:
    path = selections.save("open state", np.array([7, 3, 7, 99]))
    assert path.parent.name == "selections"
    np.testing.assert_array_equal(np.load(path), [3, 7, 99])
    np.testing.assert_array_equal(selections.load("open state"), [3, 7, 99])
    assert selections.names() == [{"name": "open state", "count": 3}]
    selections.delete("open state")
    assert selections.names() == []


def test_the_export_holds_the_selected_particles(selections: Selections, made_run: Path) -> None:
    rows = np.array([2, 30, 31, 77])
    selections.save("some", rows)
    exported = load_particles(selections.export("some"))
    original = load_particles(made_run.parent / "particles.star")
    np.testing.assert_allclose(exported.rotations, original.rotations[rows], atol=1e-6)
    np.testing.assert_array_equal(exported.images(np.arange(4)), original.images(rows))


def test_a_run_on_some_rows_of_a_file_exports_those(selections: Selections, own_run: Path, made_run: Path) -> None:
    np.save(own_run / "rows.npy", np.arange(10, 20))
    of_subset = Selections(own_run, lambda: open_particle_file(made_run.parent / "particles.star"), 10)
    of_subset.save("two", np.array([0, 9]))
    exported = load_particles(of_subset.export("two"))
    original = load_particles(made_run.parent / "particles.star")
    np.testing.assert_allclose(exported.rotations, original.rotations[[10, 19]], atol=1e-6)


@pytest.mark.parametrize("name", ["../outside", "a/b", "", ".hidden", "x" * 65, "a\0b", "line\n", "-flag"])
def test_names_that_could_lead_elsewhere_are_refused(selections: Selections, name: str) -> None:
    for action in (lambda: selections.save(name, np.array([1])), lambda: selections.load(name)):
        with pytest.raises(InputError, match="cannot name a selection"):
            action()
    assert not list(selections.run.rglob("*.npy"))


@pytest.mark.parametrize("rows", [[], [-1], [100]])
def test_rows_that_the_run_does_not_have_are_refused(selections: Selections, rows: list[int]) -> None:
    with pytest.raises(InputError, match="selection 'x'"):
        selections.save("x", np.array(rows, dtype=np.int64))


def test_without_the_particle_file_the_export_says_so(selections: Selections) -> None:
    gone = Selections(selections.run, lambda: open_particle_file("gone.star"), 100)
    gone.save("some", np.array([1]))
    with pytest.raises(InputError, match=r"gone\.star"):
        gone.export("some")
    assert os.listdir(gone.folder) == ["some.npy"]

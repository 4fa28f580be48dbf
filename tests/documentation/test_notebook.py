"""The notebook does what it says: its cells are run, one after the other, in an empty folder."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "python.ipynb"


@pytest.mark.slow
def test_every_cell_runs(tmp_path, monkeypatch):
    pytest.importorskip("gemmi")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    known: dict[str, object] = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {cell['id']}", "exec"), known)
    assert (tmp_path / "half_of_the_landscape.star").is_file()
    assert (tmp_path / "open.mrc").is_file()


def test_it_was_run_and_is_small():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]) == 3
    assert NOTEBOOK.stat().st_size < 300_000
    # No paths of the machine that it was run on.
    assert "/home/" not in NOTEBOOK.read_text()
    assert "/tmp/" not in NOTEBOOK.read_text()

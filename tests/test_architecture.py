"""Rooms know only rooms that stand before them, and no files go in circles (``tests/import_graph.py``)."""

import ast
import importlib.util
from pathlib import Path

import pytest

from import_graph import circles, imports, wrong_way

ROOT = Path(__file__).resolve().parent.parent


def test_no_room_imports_a_later_one() -> None:
    assert not wrong_way(imports())


def test_no_files_import_one_another_in_circles() -> None:
    assert not circles(imports())


def test_imports_inside_functions_and_of_whole_rooms_are_seen(tmp_path: Path) -> None:
    linear, run = tmp_path / "cryoformer" / "linear", tmp_path / "cryoformer" / "run"
    for folder in (linear, run):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    (linear / "ppca.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cryoformer.linear import seen_by_mypy\n"
        "def late():\n    from cryoformer.run import train\n"
    )
    (linear / "seen_by_mypy.py").write_text("import cryoformer.linear.ppca\n")
    (run / "train.py").write_text("from cryoformer.linear.ppca import late\n")
    graph = imports(tmp_path)
    assert wrong_way(graph) == ["cryoformer.linear.ppca imports cryoformer.run.train, but linear stands before run"]
    assert circles(graph) == [["cryoformer.linear.ppca", "cryoformer.run.train"]]


def test_a_room_without_a_place_is_not_overlooked() -> None:
    assert wrong_way({"cryoformer.attic.old": {"cryoformer.errors"}, "cryoformer.errors": set()})


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_imports_of_the_package_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0].startswith("cryoformer"):
            assert node.module is not None
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}")

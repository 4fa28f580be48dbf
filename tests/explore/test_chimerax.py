"""ChimeraX scripts name files that exist, relative to themselves, in commands that ChimeraX has."""

from pathlib import Path

import pytest

from cryoformer.explore.chimerax import write_colouring_script, write_series_script

COMMANDS = ("#", "open", "volume", "set", "lighting", "surface", "color", "view", "vseries")


@pytest.mark.parametrize("folder", ["run", "a run"])
def test_a_series_is_opened_coloured_and_played(tmp_path: Path, folder: str) -> None:
    root = tmp_path / folder
    frames = [root / "trajectories" / "my path" / f"frame_{i:03d}.mrc" for i in range(3)]
    script = write_series_script(root / "trajectories" / "p.cxc", frames, 0.25, root / "flexibility.mrc", 0.1)
    lines = script.read_text().splitlines()
    assert lines[1] == " ".join(["open", *(f'"my path/frame_{i:03d}.mrc"' for i in range(3)), "vseries true"])
    assert lines[2] == "open ../flexibility.mrc"
    assert "color sample #1 map #2 palette 0,#ccd4db:0.05,#e69f00:0.1,#d55e00" in lines
    assert lines[-1].startswith("vseries play #1 loop true direction oscillate")
    assert all(line.split()[0] in COMMANDS for line in lines)
    assert str(tmp_path) not in script.read_text()


def test_a_single_frame_is_no_series(tmp_path: Path) -> None:
    script = write_series_script(tmp_path / "p.cxc", [tmp_path / "a.mrc"], 0.25, tmp_path / "f.mrc", 0.1)
    assert "vseries" not in script.read_text()


def test_every_map_is_opened_and_the_first_one_colours(tmp_path: Path) -> None:
    maps = [(tmp_path / "attention" / f"part_{i}.mrc", float(i)) for i in (1, 2, 3)]
    script = write_colouring_script(tmp_path / "attention" / "parts.cxc", tmp_path / "density.mrc", 0.5, maps)
    lines = script.read_text().splitlines()
    assert [line for line in lines if line.startswith("open")] == [
        "open ../density.mrc",
        *(f"open part_{i}.mrc" for i in (1, 2, 3)),
    ]
    assert "volume #2-4 hide" in lines
    assert [line.split()[:5] for line in lines if line.startswith("# color")] == [
        ["#", "color", "sample", "#1", "map"], ["#", "color", "sample", "#1", "map"],
    ]  # fmt: skip

"""ChimeraX scripts (.cxc) that open what was written, colour it and play it.

Paths are relative: ChimeraX reads them from the folder of the script (``cd`` is not needed when it is opened by its
name from there, or with ``open SCRIPT``). Colours are those of the report: grey is still, vermilion moves.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from cryoformer.files import write_text

STILL, MIDDLE, MOVING = "#ccd4db", "#e69f00", "#d55e00"


def write_series_script(
    path: Path, frames: Sequence[Path], level: float, flexibility: Path, full_colour: float
) -> Path:
    """A script that plays a volume series there and back, its surfaces coloured by the flexibility map."""
    files = " ".join(_relative(frame, path) for frame in frames)
    single = len(frames) == 1
    lines = [
        "# The states of a trajectory, in order; the colour is the flexibility map.",
        f"open {files}" + ("" if single else " vseries true"),
        f"open {_relative(flexibility, path)}",
        "volume #2 hide",
        *_looks(level),
        _colour("#1", "#2", full_colour),
        "view",
    ]
    if not single:
        lines.append("vseries play #1 loop true direction oscillate maxFrameRate 8")
    return _write(path, lines)


def write_colouring_script(path: Path, density: Path, level: float, maps: Sequence[tuple[Path, float]]) -> Path:
    """A script that colours the surface of a density by the first of the maps and tells how to use the others.

    Args:
        path: the script.
        density: the map whose surface is drawn.
        level: its contour level.
        maps: what to colour by, each with the value that gets the full colour.
    """
    lines = ["# The surface is coloured by #2. For another map type its line below without the #-sign in front."]
    lines += [f"open {_relative(density, path)}"]
    lines += [f"open {_relative(volume, path)}" for volume, _ in maps]
    lines += [f"volume #2-{len(maps) + 1} hide", *_looks(level), _colour("#1", "#2", maps[0][1]), "view"]
    lines += [f"# {_colour('#1', f'#{number}', full)}" for number, (_, full) in enumerate(maps[1:], start=3)]
    return _write(path, lines)


def _looks(level: float) -> list[str]:
    return [
        "set bgColor white",
        "lighting soft",
        f"volume #1 style surface step 1 level {level:.6g} color {STILL}",
        "surface dust #1 size 10",
    ]


def _colour(surface: str, volume: str, full: float) -> str:
    return f"color sample {surface} map {volume} palette 0,{STILL}:{full / 2:.6g},{MIDDLE}:{full:.6g},{MOVING}"


def _relative(target: Path, script: Path) -> str:
    """Quoted where it has to be: commands are split at spaces."""
    text = Path(os.path.relpath(target, script.parent)).as_posix()
    return f'"{text}"' if " " in text else text


def _write(path: Path, lines: list[str]) -> Path:
    write_text(path, "\n".join(lines) + "\n")
    return path

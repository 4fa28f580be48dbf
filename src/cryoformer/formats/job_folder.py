"""The folder of a job in place of its particle file: which of its files is meant.

RELION writes ``run_itNNN_data.star`` (``run_ctMMM_itNNN_data.star`` where a job was continued) and, at the end,
``run_data.star``; Extract, Select and others ``particles.star``. cryoSPARC writes ``..._NNN_particles.cs`` for every
iteration, and exports ``..._particles_exported.cs``. cryoDRGN's folder has a ``poses.pkl``.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from cryoformer.errors import InputError

logger = logging.getLogger(__name__)

POSES = "poses.pkl"
NAMED = ("run_data.star", "particles.star")
EXPECTED = "run_data.star, run_it..._data.star, particles.star, ..._particles.cs, or cryoDRGN's poses.pkl"


def file_of_folder(folder: Path, with_poses: bool = False) -> Path:
    """The particle file of a job: the final one, or that of the last iteration. Which one is said in one line.

    Args:
        with_poses: that cryoDRGN's poses are given apart, so that the folder is to say the images alone.

    Raises:
        InputError: none, or several of which none is the last.
    """
    if not with_poses and (folder / POSES).is_file():
        return folder / POSES
    named = next((folder / name for name in NAMED if (folder / name).is_file()), None)
    found = named or _last(folder, list(folder.glob("run_*it[0-9]*_data.star")), _relion_iteration)
    found = found or _last(folder, _cryosparc_files(folder), _cryosparc_iteration)
    if found is None:
        raise InputError(f"{folder}: holds no particle file (looked for {EXPECTED}); give the file itself")
    logger.info("%s: its particles are those of %s", folder, found.name)
    return found


def holds_particles(folder: Path) -> bool:
    """Whether a folder is that of a job, not of a run of this program."""
    if (folder / "config.yaml").is_file() or not folder.is_dir():
        return False
    named = any((folder / name).is_file() for name in (POSES, *NAMED))
    return named or any(folder.glob("run_*it[0-9]*_data.star")) or bool(_cryosparc_files(folder))


def _cryosparc_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*particles*.cs") if "passthrough" not in path.name]


def _relion_iteration(path: Path) -> int | None:
    found = re.search(r"_it(\d+)_data$", path.stem)
    return int(found[1]) if found else None


def _cryosparc_iteration(path: Path) -> int | None:
    """The number of an iteration; a name without is that of the job's result."""
    found = re.search(r"_(\d{3,})_particles", path.stem)
    return int(found[1]) if found else None


def _last(folder: Path, files: list[Path], iteration: Callable[[Path], int | None]) -> Path | None:
    """The file without an iteration, or else that of the last one."""
    if not files:
        return None
    numbers = {path: iteration(path) for path in sorted(files)}
    results = [path for path, number in numbers.items() if number is None]
    last = max((number for number in numbers.values() if number is not None), default=None)
    results = results or [path for path, number in numbers.items() if number == last]
    if len(results) > 1:
        raise InputError(
            f"{folder}: holds {len(results)} particle files ({', '.join(path.name for path in results[:4])}); give one "
            "of them by its name"
        )
    return results[0]

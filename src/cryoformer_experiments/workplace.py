"""The folder of an experiment: what it was asked for, its stacks, and what of it is done already.

experiment.json              name, size, seed and stacks: a second call must ask for the same, or for other stacks
STACK/particles/             the simulated stack (unless one was given)
STACK/METHOD/                a run or a baseline
STACK/METHOD.fit.json        command, seconds, peak memory
STACK/METHOD.log             what the fit said
STACK/METHOD.scores.json     its scores
NAME.json, NAME.md, *.png    the result
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryoformer.errors import InputError
from cryoformer.files import read_json, write_json
from cryoformer_experiments.plan import Plan, Stack

MARKER = "experiment.json"
logger = logging.getLogger(__name__)


def open_workplace(plan: Plan) -> None:
    """Make the folder, or make sure that it belongs to the same experiment.

    Raises:
        InputError: it holds something else.
    """
    out, wanted = plan.options.out, _identity(plan)
    marker = out / MARKER
    if marker.is_file():
        found = read_json(marker)
        # Of the stacks, those that both have: others may be added.
        known = {"stacks": {}} | found
        wanted["stacks"] = known["stacks"] | wanted["stacks"]
        found["stacks"] = wanted["stacks"] | known["stacks"]
        different = [name for name in wanted if found.get(name) != wanted[name]]
        if different:
            raise InputError(
                f"{out}: holds an experiment with another {' and '.join(different)}; choose another --out, or ask for "
                f"the same ({', '.join(f'{name} {_short(found.get(name))}' for name in different)})"
            )
        write_json(marker, wanted)
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists, is not empty and holds no experiment: choose another --out")
    write_json(marker, wanted)


def make_stack(stack: Stack, show_progress: bool = False) -> None:
    """Simulate a stack that is not there yet."""
    from cryoformer.simulate.stack import simulate

    if stack.config is None or (stack.truth / "truth.npz").is_file():
        return
    logger.info("simulating %d images (%s)", stack.config.images, stack.name)
    simulate(stack.config, show_progress)


def kept_scores(
    folder: Path, record: Path, asked: dict[str, Any], score: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Scores of a fit, computed once: anew when other scores are asked for, or the fit (its record) is newer."""
    path = folder.with_name(folder.name + ".scores.json")
    asked = asked | {"fitted": record.stat().st_mtime_ns}
    if path.is_file():
        found = read_json(path)
        if found.get("asked") == asked:
            return found
    logger.info("scoring %s", folder.name)
    found = {"asked": asked, **score()}
    write_json(path, found)
    return found


def _identity(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.experiment.name,
        "size": plan.options.size,
        "seed": plan.options.seed,
        "stacks": {stack.name: _stack_identity(stack) for stack in plan.stacks},
    }


def _stack_identity(stack: Stack) -> dict[str, Any]:
    if stack.config is None:
        return {"particles": str(stack.particles.resolve()), "truth": str(stack.truth.resolve())}
    settings = stack.config.model_dump(mode="json", exclude={"out", "models"})
    settings["snr"] = str(stack.config.snr)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in stack.config.models}
    return settings | {"models_sha256": digests}


def _short(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else "as in " + MARKER

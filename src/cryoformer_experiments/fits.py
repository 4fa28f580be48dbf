"""One method fitted on one stack, by its own command in a process of its own, with its time and peak memory.

A fit that is finished is kept; a run that was stopped goes on (``train --resume``), a baseline begins again. A fit that
fails is recorded with what it said last, and tried again by the next call.
"""

import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryoformer.errors import InputError
from cryoformer.files import read_json, write_json
from cryoformer.run.run_folder import RunPaths
from cryoformer_experiments.plan import Plan, Stack, fit_settings
from cryoformer_experiments.recipe import EPOCH_METHODS, OURS, Method

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """A method on a stack, or on one half of it, and where its result goes."""

    stack: Stack
    method: Method
    half: int | None
    folder: Path

    @property
    def record_file(self) -> Path:
        return self.folder.with_name(self.folder.name + ".fit.json")

    @property
    def log_file(self) -> Path:
        return self.folder.with_name(self.folder.name + ".log")


def fit_of(plan: Plan, stack: Stack, method: Method, half: int | None = None) -> Fit:
    """The fit of a method to a stack, or to one of its halves."""
    name = method.name if half is None else f"{method.name}_half{half}"
    return Fit(stack, method, half, plan.options.out / stack.name / name)


def fit_arguments(plan: Plan, fit: Fit, minutes: float | None) -> list[str]:
    """Arguments of ``cryoformer`` that do this fit."""
    method = fit.method
    command = ["train"] if method.method == OURS else ["baseline", method.method]
    arguments = [*command, str(fit.stack.particles), "--out", str(fit.folder), "--seed", str(plan.options.seed)]
    if method.method == OURS and method.preset != "default":
        arguments += ["--preset", method.preset]
    if fit.half is not None:
        arguments += ["--half", str(fit.half)]
    for name, value in fit_settings(plan, method).items():
        arguments += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    if minutes is not None and method.method in EPOCH_METHODS:
        arguments += ["--max-minutes", f"{minutes:.2f}"]
    return arguments


def run_fit(plan: Plan, fit: Fit, minutes: float | None) -> dict[str, Any]:
    """Do the fit unless it is done; its record: command, exit code, seconds of the process, peak memory.

    Raises:
        InputError: the folder holds a fit that was asked for differently.
    """
    arguments = fit_arguments(plan, fit, minutes)
    earlier = read_json(fit.record_file) if fit.record_file.is_file() else {}
    if earlier.get("exit_code") == 0:
        _check_same(fit, earlier["arguments"], arguments)
        return earlier
    resumed = _prepare(fit, can_go_on=earlier.get("arguments") == arguments)
    write_json(fit.record_file, {"arguments": arguments, "exit_code": None})
    logger.info("fitting %s on %s%s", fit.folder.name, fit.stack.name, " (goes on)" if resumed else "")
    measured = run_measured(
        [sys.executable, "-m", "cryoformer", *arguments, *(["--resume"] if resumed else [])],
        fit.log_file,
        plan.options.threads,
        keep_log=resumed,
    )
    record = {"arguments": arguments, "resumed": resumed, **measured}
    if measured["exit_code"] != 0:
        record["said"] = _last_line(fit.log_file)
        logger.warning("%s failed: %s (see %s)", fit.folder.name, record["said"], fit.log_file)
    write_json(fit.record_file, record)
    return record


def run_measured(command: Sequence[str], log: Path, threads: int | None, keep_log: bool = False) -> dict[str, Any]:
    """Run a command with its output in a file; exit code, seconds, and peak memory of it and what it started."""
    log.parent.mkdir(parents=True, exist_ok=True)
    result = log.with_suffix(".measured")
    result.unlink(missing_ok=True)
    environment = dict(os.environ) | (
        {} if threads is None else dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    )
    with log.open("a" if keep_log else "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cryoformer_experiments.measured", str(result), *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            code = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if not result.is_file():
        return {"exit_code": code or 1, "process_seconds": None, "peak_memory_gib": None}
    measured = read_json(result)
    result.unlink()
    return measured


def _check_same(fit: Fit, done: list[str], asked: list[str]) -> None:
    if done != asked:
        raise InputError(
            f"{fit.folder}: was fitted by '{shlex.join(done)}', now '{shlex.join(asked)}' is asked for; choose another "
            f"--out, or remove {fit.record_file} to fit it anew"
        )


def _prepare(fit: Fit, can_go_on: bool) -> bool:
    """Clear away what an unfinished fit left, unless it can go on; whether it can."""
    if not fit.folder.exists():
        return False
    if can_go_on and fit.method.method == OURS and RunPaths(fit.folder).config.is_file():
        return True
    shutil.rmtree(fit.folder)
    return False


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"

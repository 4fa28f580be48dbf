"""Under what circumstances an experiment was made: command, versions, machine. Paths of the machine are left out."""

import os
import platform
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from cryoformer import __version__
from cryoformer_experiments.plan import Plan

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")


def circumstances(plan: Plan) -> dict[str, Any]:
    """Command that repeats the experiment, versions, processor, cores, memory and threads."""
    threads = plan.options.threads
    return {
        "command": command_of(plan),
        "minutes": plan.minutes,
        "threads": threads if threads is not None else os.environ.get("OMP_NUM_THREADS", "default"),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"cryoformer": __version__, "python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES},
    }


def command_of(plan: Plan) -> str:
    """The command, with files by their names and the folder as DIR."""
    options = plan.options
    words = ["cryoformer", "benchmark", plan.experiment.name, "--out", "DIR", "--size", options.size]
    words += ["--models", *(path.name for path in options.models)] if options.models else []
    words += ["--methods", *options.methods] if options.methods else []
    words += ["--stacks", *options.stacks] if options.stacks else []
    words += ["--minutes", f"{options.minutes:g}"] if options.minutes is not None else []
    words += ["--seed", str(options.seed)]
    words += ["--threads", str(options.threads)] if options.threads is not None else []
    words += ["--cryodrgn", options.cryodrgn.name] if options.cryodrgn is not None else []
    if options.particles is not None and options.truth is not None:
        words += ["--particles", options.particles.name, "--truth", options.truth.resolve().name]
    return shlex.join(words)


def shown(plan: Plan, words: Sequence[str]) -> str:
    """Words of a command as they may be published: the experiment's folder is DIR, any other path its last name."""
    return shlex.join(_shown_word(plan, word) for word in words)


def shown_message(plan: Plan, message: str) -> str:
    """A message, likewise."""
    return " ".join(_shown_word(plan, word) for word in message.split())


def _shown_word(plan: Plan, word: str) -> str:
    name, equals, value = word.rpartition("=")
    out = plan.options.out.resolve()
    path = Path(value.rstrip(":;,."))
    if "/" not in value or not (path.is_absolute() or path.exists() or str(value).startswith(f"{plan.options.out}/")):
        return word
    rest = value[len(str(path)) :]
    shorter = f"DIR/{path.resolve().relative_to(out)}" if path.resolve().is_relative_to(out) else path.name
    return f"{name}{equals}{shorter}{rest}"


def processor() -> str:
    """Name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())

"""What a measurement depends on: processor, cores, threads and versions."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any


def facts(threads: int, cryodrgn: str | None) -> dict[str, Any]:
    """Machine and versions, as JSON; ``cryodrgn`` is its command."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("cryoformer", "torch", "numpy")} | {"commit": _commit()},
        "cryodrgn_versions": _peer_versions(cryodrgn) if cryodrgn else None,
    }


def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _peer_versions(command: str) -> dict[str, str] | None:
    """Versions in the environment that the command belongs to."""
    code = "from importlib.metadata import version as v; print(v('cryodrgn'), v('torch'), v('numpy'))"
    try:
        done = subprocess.run(
            [Path(command).with_name("python"), "-c", code], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return dict(zip(("cryodrgn", "torch", "numpy"), done.stdout.split(), strict=True))

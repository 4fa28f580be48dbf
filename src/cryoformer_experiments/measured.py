"""Run a command, and write its seconds, peak memory and exit code as JSON: ``python -m ... RESULT.json COMMAND ...``

A process of its own, which imports nothing large: the peak memory that the system reports of a child begins with that
of the process that started it.
"""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

STOP_SECONDS = 20.0


def main() -> int:
    """Exit code of the command."""
    result, command = Path(sys.argv[1]), sys.argv[2:]
    started = time.perf_counter()
    child = subprocess.Popen(command)
    # An interrupt from the terminal reaches the child by itself; a request to end is passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    try:
        code = child.wait()
    except _EndError:
        code = _stop(child)
    seconds = time.perf_counter() - started
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    facts = {"exit_code": code, "process_seconds": round(seconds, 2), "peak_memory_gib": round(peak / 2**30, 3)}
    result.write_text(json.dumps(facts) + "\n")
    return code if code >= 0 else 128 - code


class _EndError(Exception):
    """This process was asked to end."""


def _end(number: int, frame: FrameType | None) -> None:
    raise _EndError


def _stop(child: subprocess.Popen[bytes]) -> int:
    """Interrupt the child, so that it can end what it started itself; after a while, less politely."""
    child.send_signal(signal.SIGINT)
    try:
        return child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.terminate()
        return child.wait()


if __name__ == "__main__":
    sys.exit(main())

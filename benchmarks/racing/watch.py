"""A program run in a process of its own: when it said how far it is, how long it took, and its peak memory."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil

STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Sample:
    """A line that says how far the training is: ``images`` are counted within the stage or the epoch."""

    seconds: float
    stage: str
    epoch: int
    images: int


Parse = Callable[[str], tuple[str, int, int] | None]


@dataclass(frozen=True)
class Watched:
    """What a process did.

    ``peak_gib`` is its largest resident memory, ``load`` the load averages before and after, ``cores`` what it used on
    average, and ``others_cores`` what all other programs used meanwhile: more than a few hundredths spoil its times.
    """

    samples: list[Sample]
    seconds: float
    peak_gib: float
    returncode: int
    stopped: bool
    load: tuple[float, float]
    cores: float
    others_cores: float


def watch(
    command: Sequence[str],
    parse: Parse,
    log: Path,
    threads: int,
    until: Callable[[list[Sample]], bool] = lambda samples: False,
    limit_seconds: float | None = None,
) -> Watched:
    """Run a command until it ends, ``until`` says so, or its time is up; its output goes to ``log``.

    Raises:
        SystemExit: it failed by itself.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    samples, stopped = [], threading.Event()
    load, busy, started = os.getloadavg()[0], busy_seconds(), time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    )

    def stop() -> None:
        stopped.set()
        process.terminate()

    timer = threading.Timer(limit_seconds or threading.TIMEOUT_MAX, stop)
    timer.daemon = True
    timer.start()
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("w") as file:
            for line in process.stdout or ():
                file.write(line)
                found = parse(line)
                if found is not None:
                    samples.append(Sample(time.monotonic() - started, *found))
                    if until(samples):
                        stop()
                        break
    finally:
        timer.cancel()
        used, peak = _end(process)
    if process.returncode != 0 and not stopped.is_set():
        raise SystemExit(f"{command[0]} ended with {process.returncode}; its last words are in {log}")
    seconds = time.monotonic() - started
    return Watched(
        samples=samples,
        seconds=seconds,
        peak_gib=peak,
        returncode=process.returncode,
        stopped=stopped.is_set(),
        load=(load, os.getloadavg()[0]),
        cores=used / seconds,
        others_cores=max(busy_seconds() - busy - used, 0.0) / seconds,
    )


def busy_seconds() -> float:
    """Processor time that all programs together have used since the machine started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _end(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Wait for a process, which is killed where it does not end; its processor seconds and peak memory in GiB."""
    if process.stdout:
        process.stdout.close()
    killer = threading.Timer(STOP_SECONDS, process.kill)
    killer.start()
    _, status, usage = os.wait4(process.pid, 0)
    killer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def rates(samples: Sequence[Sample], stage: str, warm_seconds: float, window_seconds: float) -> list[float]:
    """Images per second in consecutive windows of one stage.

    A window is made of intervals between lines of the same epoch, so what is done between epochs is in none; nor are
    the first seconds.
    """
    ours = [sample for sample in samples if sample.stage == stage]
    steady = [sample for sample in ours if sample.seconds >= ours[0].seconds + warm_seconds]
    found, images, seconds = [], 0, 0.0
    for before, after in pairwise(steady):
        if before.epoch != after.epoch:
            continue
        images, seconds = images + after.images - before.images, seconds + after.seconds - before.seconds
        if seconds >= window_seconds:
            found.append(images / seconds)
            images, seconds = 0, 0.0
    return found


def steady_for(seconds: float, stage: str) -> Callable[[list[Sample]], bool]:
    """Whether a stage has been watched for this long, counted from its first line."""

    def long_enough(samples: list[Sample]) -> bool:
        ours = [sample.seconds for sample in samples if sample.stage == stage]
        return len(ours) > 1 and ours[-1] - ours[0] >= seconds

    return long_enough


def middle(values: Sequence[float]) -> float | None:
    """Median, or None of nothing."""
    return median(values) if values else None

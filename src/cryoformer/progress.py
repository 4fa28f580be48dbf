"""What a run tells while it works: a live line on a terminal, plain lines elsewhere, ``log.txt``, ``metrics.jsonl``."""

import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cryoformer.errors import InputError

PLAIN_SECONDS = 30.0


def time_limit(max_minutes: float | None) -> float | None:
    """Seconds of ``--max-minutes``; None for no limit.

    Raises:
        InputError: not a number above 0.
    """
    if max_minutes is not None and not (max_minutes > 0 and math.isfinite(max_minutes)):
        raise InputError(f"--max-minutes {max_minutes:g}: expected a number above 0")
    return None if max_minutes is None else 60.0 * max_minutes


def memory_gib() -> float:
    """Resident memory of this process in GiB."""
    return float(psutil.Process().memory_info().rss) / 2**30


class RunLog:
    """Progress and metrics of one run; ``elapsed`` counts the calls before this one too.

    Args:
        metrics: file for :meth:`record`, or None.
        elapsed_before: seconds that earlier calls took.
        texts: files that every line is written to as well.
        silent: says nothing: another process does.
    """

    def __init__(
        self,
        metrics: Path | None,
        elapsed_before: float = 0.0,
        texts: Sequence[Path] = (),
        silent: bool = False,
    ) -> None:
        self._metrics, self._before, self._started, self._texts = metrics, elapsed_before, time.monotonic(), texts
        self._console = Console(stderr=True, quiet=silent)
        self._live, self._silent = sys.stderr.isatty() and not silent, silent
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._live,
        )
        self._task: TaskID | None = None
        self._stage, self._stage_started, self._said = "", self._started, 0.0
        self._handler = _Lines(self)

    def __enter__(self) -> "RunLog":
        logger = logging.getLogger("cryoformer")
        logger.addHandler(self._handler)
        logger.setLevel(logging.ERROR if self._silent else logging.INFO)
        logger.propagate = False
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        logging.getLogger("cryoformer").removeHandler(self._handler)
        logging.getLogger("cryoformer").propagate = True

    @property
    def elapsed(self) -> float:
        """Seconds spent on this run."""
        return self._before + self.elapsed_here

    @property
    def elapsed_here(self) -> float:
        """Seconds spent on it by this call."""
        return time.monotonic() - self._started

    def stage(self, name: str) -> None:
        """Begin a stage of the run."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=1.0, facts="")
        self._stage, self._stage_started, self._said = name, time.monotonic(), time.monotonic()
        self.say(f"{name} ...")

    def advance(self, fraction: float, facts: str = "") -> None:
        """How far the stage is, 0 to 1, with a few words on what matters."""
        facts = f"{facts}  {memory_gib():.1f} GiB".strip()
        if self._task is not None:
            self._progress.update(self._task, completed=fraction, facts=facts)
        now = time.monotonic()
        if not self._live and now - self._said > PLAIN_SECONDS:
            self._said = now
            left = (now - self._stage_started) * (1 - fraction) / max(fraction, 1e-6)
            self.say(f"{self._stage}: {100 * fraction:.0f} %  {facts}  {left:.0f} s left")

    def say(self, text: str) -> None:
        """One line for the reader."""
        line = f"[{self.elapsed:7.1f} s] {text}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self.note(line)

    def note(self, line: str) -> None:
        """A line for the files alone."""
        for path in self._texts:
            with path.open("a") as file:
                file.write(line + "\n")

    @contextmanager
    def quiet(self, hush: bool = True) -> Iterator[None]:
        """Leave out what is only for information, where it was said before."""
        logger = logging.getLogger("cryoformer")
        before = logger.level
        logger.setLevel(logging.WARNING if hush else before)
        try:
            yield
        finally:
            logger.setLevel(before)

    def record(self, **facts: Any) -> None:
        """One line of ``metrics.jsonl``."""
        if self._metrics is None:
            return
        line = {**facts, "memory_gib": round(memory_gib(), 3), "elapsed_s": round(self.elapsed, 2)}
        with self._metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")


class _Lines(logging.Handler):
    """What the library has to say, as lines of a run's log."""

    def __init__(self, log: RunLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        warning = "warning: " if record.levelno >= logging.WARNING else ""
        self._log.say(warning + record.getMessage())


@contextmanager
def said_before() -> Iterator[list[str]]:
    """What is said before there is a run to say it in: the list grows, for the run's own log."""
    said: list[str] = []
    keeper = logging.Handler()
    keeper.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("cryoformer")
    logger.addHandler(keeper)
    try:
        yield said
    finally:
        logger.removeHandler(keeper)

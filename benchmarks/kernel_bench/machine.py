"""The machine's own rates, and how a kernel is timed against them."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

MEMORY_SIDE = 1536  # three matrices of 9 MB: more than the second-level cache
CACHE_SIDE = 256  # three matrices of 256 KB: a core's second-level cache
CACHE_PRODUCTS = 32  # per core and timing
COPY_BYTES = 2**27


@dataclass(frozen=True)
class Work:
    """What a kernel does by its model.

    Attributes:
        operations: floating-point operations (a multiply-add is two).
        bytes: that must pass between memory and cores: inputs read once, results written once.
        formula: both, for the table's footnotes.
        images: images that a call works on, 0 if it works on none.
    """

    operations: float
    bytes: float
    formula: str
    images: int = 0


@dataclass
class Timings:
    """Seconds of every repetition, and the machine's rates measured next to each."""

    seconds: list[float] = field(default_factory=list)
    gemm: list[float] = field(default_factory=list)
    copy: list[float] = field(default_factory=list)


class Machine:
    """Matrix products (from memory and from cache, float32 and bfloat16) and copies, timed on demand by ``clock``."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock, self.threads = clock, torch.get_num_threads()
        self._products: dict[str, Callable[[], tuple[float, float]]] = {}
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            self._products[f"{name}_memory"] = _product(1, MEMORY_SIDE, 1, dtype, clock)
            self._products[f"{name}_cache"] = _product(self.threads, CACHE_SIDE, CACHE_PRODUCTS, dtype, clock)
        self._source, self._target = torch.ones(COPY_BYTES // 8), torch.ones(COPY_BYTES // 8)
        self.seen: dict[str, list[float]] = {name: [] for name in [*self._products, "copy"]}
        for name in self.seen:
            self.rate(name)  # warm
        self.seen = {name: [] for name in self.seen}

    def rate(self, name: str) -> float:
        """One measurement of operations (or bytes, for "copy") a second."""
        if name == "copy":
            started = self.clock()
            self._target.copy_(self._source)
            found = COPY_BYTES / (self.clock() - started)
        else:
            work, seconds = self._products[name]()
            found = work / seconds
        self.seen[name].append(found)
        return found

    def gemm(self) -> float:
        """The float32 GEMM rate: the larger of that from memory and that from cache."""
        return max(self.rate("float32_memory"), self.rate("float32_cache"))

    def time(self, kernel: Callable[[], object], repetitions: int) -> Timings:
        """Kernel and rates in turn, so that what else the machine does meets both."""
        kernel()
        found = Timings()
        for _ in range(repetitions):
            gemm = self.gemm()
            started = self.clock()
            kernel()
            found.seconds.append(self.clock() - started)
            found.gemm.append(gemm)
            found.copy.append(self.rate("copy"))
        return found

    def rates(self) -> dict[str, float]:
        """Medians of all that was measured, in 10^9 operations or bytes a second."""
        return {name: round(statistics.median(values) / 1e9, 1) for name, values in self.seen.items() if values}


def _product(
    batch: int, side: int, repeats: int, dtype: torch.dtype, clock: Callable[[], float]
) -> Callable[[], tuple[float, float]]:
    a, b = (torch.rand(batch, side, side).to(dtype) for _ in range(2))
    result = torch.empty_like(a)

    def run() -> tuple[float, float]:
        started = clock()
        for _ in range(repeats):
            torch.bmm(a, b, out=result)
        return 2.0 * side**3 * batch * repeats, clock() - started

    return run


def figures(name: str, work: Work, timings: Timings) -> dict[str, Any]:
    """A kernel's row: median time, rates, and their share of the machine's, pair by pair."""
    seconds = statistics.median(timings.seconds)
    pairs = list(zip(timings.seconds, timings.gemm, timings.copy, strict=True))
    row = {
        "kernel": name,
        "seconds": float(f"{seconds:.4g}"),
        "operations": work.operations,
        "bytes": work.bytes,
        "gflop_per_s": round(work.operations / seconds / 1e9, 2),
        "gb_per_s": round(work.bytes / seconds / 1e9, 2),
        "share_of_gemm": round(statistics.median(work.operations / s / g for s, g, _ in pairs), 4),
        "share_of_copy": round(statistics.median(work.bytes / s / c for s, _, c in pairs), 4),
        "repetitions": len(pairs),
        "formula": work.formula,
    }
    # No kernel is faster than its operations at the GEMM rate and its bytes at the copy rate, whichever takes longer.
    row["floor_seconds"] = float(
        f"{statistics.median(max(work.operations / g, work.bytes / c) for _, g, c in pairs):.3g}"
    )
    if work.images:
        row["images_per_s"] = float(f"{work.images / seconds:.4g}")
    return row


def description() -> dict[str, Any]:
    """The processor and what torch makes of it."""
    names = [
        line.partition(":")[2].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else [])
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }

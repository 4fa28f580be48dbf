"""Images per second in steady training, contestant by contestant, in rounds: A B C, A B C, ..."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from racing.contestants import Contestant
from racing.watch import middle, rates, steady_for, watch

# The first lines hold compilation, page faults and the filling of caches.
WARM_SECONDS = 5.0
WINDOW_SECONDS = 3.0


def pace(
    contestants: Sequence[Contestant], work: Path, images: int, threads: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Rates of all contestants; each is watched for ``seconds`` per round and then stopped.

    Returns:
        name -> ``images_per_second`` (median of the rounds' medians), ``rounds`` (windows, load averages), seconds of
        an epoch of ``images`` at that rate, and ``peak_gib``, resident memory from the start to the stop.
    """
    turns: dict[str, list[dict[str, Any]]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            turns[contestant.name].append(_turn(contestant, work / f"pace_{number}", threads, seconds))
            print(f"round {number + 1}, {contestant.name}: {turns[contestant.name][-1]}", flush=True)
    return {name: _summary(turn, images) for name, turn in turns.items()}


def _turn(contestant: Contestant, work: Path, threads: int, seconds: float) -> dict[str, Any]:
    out = work / contestant.name.replace(", ", "_").replace(" ", "_")
    shutil.rmtree(out, ignore_errors=True)
    watched = watch(
        contestant.command(out),
        contestant.parse,
        out.with_suffix(".log"),
        threads,
        until=steady_for(WARM_SECONDS + seconds, contestant.stage),
    )
    shutil.rmtree(out, ignore_errors=True)
    found = rates(watched.samples, contestant.stage, WARM_SECONDS, WINDOW_SECONDS)
    return {
        "images_per_second": middle(found),
        "windows": [round(rate, 2) for rate in found],
        "peak_gib": round(watched.peak_gib, 2),
        "load": [round(load, 2) for load in watched.load],
        "cores": round(watched.cores, 2),
        "others_cores": round(watched.others_cores, 2),
    }


def _summary(turns: list[dict[str, Any]], images: int) -> dict[str, Any]:
    rate = middle([turn["images_per_second"] for turn in turns if turn["images_per_second"]])
    return {
        "images_per_second": rate,
        "seconds_per_epoch": images / rate if rate else None,
        "peak_gib": max(turn["peak_gib"] for turn in turns),
        "others_cores": max(turn["others_cores"] for turn in turns),
        "rounds": turns,
    }


def ratios(result: dict[str, Any], ours: str, peer: str) -> dict[str, Any]:
    """Rate of one over that of another, round by round, and the median."""
    pairs = zip(result[ours]["rounds"], result[peer]["rounds"], strict=True)
    found = [
        a["images_per_second"] / b["images_per_second"]
        for a, b in pairs
        if a["images_per_second"] and b["images_per_second"]
    ]
    return {"median": middle(found), "rounds": found}

"""Scores as a function of training time: whole runs of this project, and cryoDRGN epoch by epoch.

Both are scored by :mod:`cryoformer.assess`, with the same masks and images. Scoring takes no part in the times.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryoformer.assess.evaluate import evaluate_sources
from cryoformer.assess.ground_truth import load_truth
from cryoformer.assess.results import open_result
from cryoformer.baselines.cryodrgn import RUN
from cryoformer.baselines.folder import BaselineFolder
from cryoformer.decode.volume_source import VolumeSource
from cryoformer.formats.cryodrgn.pickled_arrays import load_pickled_arrays
from racing.contestants import Stack, our_steps, peer_command, peer_steps, train_command
from racing.watch import middle, rates, watch

SCORES = ("moving", "molecule", "R2")
SCORES_FILE = "scores.json"
EPOCHS = 1000


def our_run(stack: Stack, name: str, truth: Path, work: Path, threads: int, images: int) -> dict[str, Any]:
    """One run from start to end and its scores; ``name`` is PRESET, or PRESET:MINUTES for a run with a time limit."""
    preset, _, minutes = name.partition(":")
    out = work / f"run_{preset}{f'_{minutes}min' if minutes else ''}"
    kept = work / f"{out.name}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    command = train_command(stack, out, preset, float(minutes) if minutes else None)
    watched = watch(command, our_steps, work / f"{out.name}.log", threads)
    stages = list(dict.fromkeys(sample.stage for sample in watched.samples))
    found = {stage: middle(rates(watched.samples, stage, 2.0, 2.0)) for stage in stages}
    opened = open_result(out)
    result = {
        "name": name,
        "seconds": round(watched.seconds, 1),
        "images_per_second": {stage: rate and round(rate, 1) for stage, rate in found.items()},
        "peak_gib": round(watched.peak_gib, 2),
        "load": [round(load, 2) for load in watched.load],
        "others_cores": round(watched.others_cores, 2),
        **scores(opened.sources[0], truth, opened.box, opened.pixel_size_angstrom, images),
    }
    kept.write_text(json.dumps(result, indent=1) + "\n")
    return result


def train_peer(stack: Stack, executable: str, minutes: float, work: Path, threads: int) -> Path:
    """cryoDRGN with its defaults for this long; the folder has the seconds of every epoch in ``seconds.json``."""
    folder = work / "cryodrgn_run"
    if (folder / "seconds.json").exists():
        return folder
    command = peer_command(stack, executable, 1024, folder / RUN, EPOCHS, stack.seed)
    (folder / "started").touch()
    watched = watch(command, peer_steps, work / "cryodrgn_run.log", threads, limit_seconds=60.0 * minutes)
    begun = (folder / "started").stat().st_mtime
    seconds = {str(epoch): round(file.stat().st_mtime - begun, 1) for epoch, file in epochs(folder / RUN).items()}
    facts = {
        "epochs": seconds,
        "peak_gib": round(watched.peak_gib, 2),
        "load": watched.load,
        "others_cores": watched.others_cores,
    }
    (folder / "seconds.json").write_text(json.dumps(facts, indent=1) + "\n")
    return folder


def epochs(run: Path) -> dict[int, Path]:
    """Weights of every epoch of a run of cryoDRGN whose latents are there too, by number."""
    names = [(re.fullmatch(r"weights\.(\d+)\.pkl", path.name), path) for path in run.glob("weights.*.pkl")]
    found = {int(name[1]): path for name, path in names if name}
    return {epoch: found[epoch] for epoch in sorted(found) if (run / f"z.{epoch}.pkl").exists()}


def peer_scores(folder: Path, executable: str, stack: Stack, truth: Path, images: int) -> list[dict[str, Any]]:
    """Scores of every epoch of ``folder/cryodrgn``; those known already are read from ``folder/scores.json``."""
    kept = folder / SCORES_FILE
    rows: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    particles = stack.load()
    for epoch in epochs(folder / RUN):
        key = f"epoch {epoch}, {images} images"
        if key in rows:
            continue
        facts = {
            "method": "cryodrgn",
            "box": particles.box,
            "pixel_size_angstrom": particles.pixel_size_angstrom,
            "settings": {"executable": executable},
            "found": {"epochs": epoch},
        }
        latents = np.array(load_pickled_arrays(folder / RUN / f"z.{epoch}.pkl")[0], dtype=np.float32)
        source = BaselineFolder(folder, facts, latents, None)
        rows[key] = {"epoch": epoch, **scores(source, truth, particles.box, particles.pixel_size_angstrom, images)}
        kept.write_text(json.dumps(rows, indent=1) + "\n")
        print(f"cryoDRGN, {key}: {rows[key]}", flush=True)
    return sorted(
        (row for row in rows.values() if row["images"] == min(images, len(particles))), key=lambda row: row["epoch"]
    )


def scores(source: VolumeSource, truth: Path, box: int, pixel_size_angstrom: float, images: int) -> dict[str, Any]:
    """Per-image area under the FSC over the moving region and the molecule, R2 of the latents, and how many images."""
    loaded = load_truth(truth, box, pixel_size_angstrom, len(source.latents))
    found = evaluate_sources([source], loaded, images)
    own = found["sources"][source.name]
    row = {mask: round(values["auc_mean"], 4) for mask, values in own["per_image"].items()}
    return row | {"R2": round(own["latents"]["knn_r2"], 4), "images": found["settings"]["images"]}


def timed(rows: list[dict[str, Any]], folder: Path, seconds_per_epoch: float | None) -> list[dict[str, Any]]:
    """The epochs with the seconds at which each was done: as measured, or by the rate of steady training.

    The second counts training alone, neither loading nor the latents after each epoch, so it flatters cryoDRGN.
    """
    facts: dict[str, Any] = {"epochs": {}}
    if (folder / "seconds.json").exists():
        facts = json.loads((folder / "seconds.json").read_text())
    done = []
    for row in rows:
        by_rate = row["epoch"] * seconds_per_epoch if seconds_per_epoch else None
        seconds = facts["epochs"].get(str(row["epoch"]), by_rate)
        done.append(row | {"seconds": seconds, "peak_gib": facts.get("peak_gib")})
    return done


def marks_of(rows: Sequence[dict[str, Any]], minutes: float) -> dict[str, float] | None:
    """The best of each score up to the first epoch that ends at or after these minutes (all epochs where none does)."""
    late = [row["seconds"] for row in rows if row["seconds"] is not None and row["seconds"] >= 60.0 * minutes]
    until = min(late, default=float("inf"))
    before = [row for row in rows if row["seconds"] is not None and row["seconds"] <= until]
    return {name: max(row[name] for row in before) for name in SCORES if name in before[0]} if before else None


def first_passed(rows: Sequence[dict[str, Any]], marks: dict[str, float]) -> dict[str, float | None]:
    """Seconds at which each mark was first reached, and all of them at once (key "all"); None: never."""
    timed_rows = [row for row in rows if row["seconds"] is not None]
    found = {
        name: min((row["seconds"] for row in timed_rows if row.get(name, -np.inf) >= mark), default=None)
        for name, mark in marks.items()
    }
    whole = [row["seconds"] for row in timed_rows if all(row.get(n, -np.inf) >= mark for n, mark in marks.items())]
    return found | {"all": min(whole, default=None)}

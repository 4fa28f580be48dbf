"""What these benchmarks share: the command as a user gives it, runs that are scored, and results as JSON."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def cryoformer(*arguments: str | Path) -> float:
    """Run the command with these arguments; the seconds it took."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "cryoformer", *map(str, arguments)], check=True)
    return time.monotonic() - started


def scored_run(particles: Path, out: Path, truth: Path, *settings: str) -> dict[str, Any]:
    """Scores of a run against the truth, and its seconds (0 where it was there already)."""
    seconds = 0.0
    if not (out / "evaluation.json").exists():
        seconds = cryoformer("train", particles, "--out", out, *(["--resume"] if out.exists() else settings))
        cryoformer("evaluate", out, "--truth", truth)
    ours = json.loads((out / "evaluation.json").read_text())["sources"]["cryoformer"]
    scores = {f"{mask}_auc": ours["per_image"][mask]["auc_mean"] for mask in ("molecule", "moving")}
    return scores | {"r2": ours["latents"]["knn_r2"], "seconds": round(seconds, 1)}


def measured(parser: argparse.ArgumentParser, measure: Callable[[argparse.Namespace], dict[str, Any]]) -> None:
    """What ``measure`` finds in the folder ``out`` (a temporary one by default), printed and written to ``--json``."""
    parser.add_argument("--out", type=Path, help="folder; what is done there is not done again")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        options.out = options.out or Path(temporary)
        result = measure(options)
    print(json.dumps(result, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")

"""The benchmark of kernels runs: every kernel, the training step included, is measured and put beside its floor."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "kernels.py"


def test_kernels_are_measured_down_to_the_training_step(tmp_path: Path) -> None:
    out = tmp_path / "kernels.json"
    options = ["--box", "16", "--images", "4", "--repetitions", "1", "--threads", "1", "--out", str(out)]
    chosen = ["--kernels", "decoding", "training step"]
    done = subprocess.run([sys.executable, str(BENCHMARK), *options, *chosen], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    measured = json.loads(out.read_text())
    names = {row["kernel"] for box in measured["boxes"] for row in box["kernels"]}
    assert {"decoding, forward + backward", "training step, 1 image a state"} <= names
    assert "training step, 1 image a state" in out.with_suffix(".md").read_text()

"""The check of a GPU runs through, on the CPU with small sizes: where there is a GPU it must not fail on itself."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu_check.py"


def test_every_part_runs_and_is_written_down(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    options = ["--device", "cpu", "--tiny", "--skip-tests", "--out", str(out)]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())
    (step,) = found["steps"]
    assert step["images_per_second"] > 0
    assert step["peak_gib"] > 0
    assert 0 < found["profile"]["share_in_kernels"] <= 1.5  # operations on several threads add up
    assert found["runs"]["cpu_float32"]["scores"]

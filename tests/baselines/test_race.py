"""benchmarks/race.py: rates from lines, watched programs, marks; and the whole race with a stand-in for cryoDRGN."""

import json
import os
import resource
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from racing.contestants import our_steps, peer_steps
from racing.quality import first_passed, marks_of, timed
from racing.tables import tables
from racing.traced_train import trace_steps
from racing.watch import Sample, rates, steady_for, watch

from cryoformer.formats.particle_input import ParticleInput
from cryoformer.run.train import train
from cryoformer.training.trainer import StageTrainer

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SMALL = {
    "subspace": {"box": 16, "dimension": 2, "iterations": 2},
    "stages": [{"box": 16, "epochs": 2, "batch": 100}, {"box": 24, "epochs": 1, "batch": 100}],
    "model": {"queries": 8, "channels": 8, "hash_levels": 4, "hash_table_log2": 10, "encoder_layers": 2},
    "base": False,
    "refine_latents": False,
}

STAND_IN = """#!{python}
import pickle, sys, time
from pathlib import Path
import numpy as np
arguments = sys.argv[1:]
value = lambda name: arguments[arguments.index(name) + 1]
if arguments[0] == "train_vae":
    out = Path(value("--outdir"))
    (out / "config.yaml").write_text("model_args: {{}}")
    for epoch in range(1, int(value("--num-epochs")) + 1):
        for images in range(16, 401, 16):
            print(f"# [Train Epoch: {{epoch}}/9] [{{images}}/400 particles] gen loss=1", flush=True)
            time.sleep(0.02 if value("--enc-dim") == "1024" else 0.01)
        with open(out / f"z.{{epoch}}.pkl", "wb") as file:
            pickle.dump(np.random.default_rng(epoch).normal(size=(400, 8)).astype(np.float32), file)
        (out / f"weights.{{epoch}}.pkl").write_bytes(b"torch")
elif arguments[0] == "eval_vol":
    import mrcfile
    for number, point in enumerate(np.loadtxt(value("--zfile"), ndmin=2), start=1):
        with mrcfile.new(Path(value("-o")) / f"vol_{{number:03d}}.mrc") as file:
            file.set_data(np.random.default_rng(number).normal(size=(24, 24, 24)).astype(np.float32))
"""


def test_rates_leave_out_the_first_seconds_the_ends_of_epochs_and_other_stages() -> None:
    slow = [Sample(float(t), "64", 0, t) for t in range(5)]  # one image a second at first
    first = [Sample(5.0 + t, "64", 0, 5 + 10 * t) for t in range(10)]
    # Seven seconds pass between the epochs; images are counted anew.
    second = [Sample(21.0 + t, "64", 1, 10 * t) for t in range(10)]
    other = [Sample(40.0 + t, "32", 0, 100 * t) for t in range(10)]
    samples = [*slow, *first, *second, *other]
    assert rates(samples, "64", 5.0, 3.0) == [10.0] * 6
    assert rates(samples, "64", 0.0, 3.0)[0] == 1.0
    assert rates(samples, "32", 0.0, 9.0) == [100.0]
    assert rates(samples, "128", 0.0, 3.0) == []


def test_lines_of_both_programs_are_understood() -> None:
    assert our_steps("step box=64 epoch=1 images=320\n") == ("64", 1, 320)
    assert our_steps("[   1.0 s] training at 64 pixels") is None
    line = "(INFO) (train_vae.py) (26-Nov-2026 19:58:30) # [Train Epoch: 1/8] [1008/5000 particles] gen loss=0.673"
    assert peer_steps(line) == ("training", 1, 1008)
    assert peer_steps("# =====> Epoch: 1 Average gen loss = 0.6") is None


def test_a_program_is_watched_until_it_has_trained_long_enough(tmp_path: Path) -> None:
    code = (
        "import time\nkept = bytearray(2**28)\n"
        "for i in range(10**6): print(f'step box=8 epoch=0 images={i}', flush=True); time.sleep(0.01)"
    )
    found = watch([sys.executable, "-c", code], our_steps, tmp_path / "log", 1, until=steady_for(0.5, "8"))
    assert found.stopped
    assert 0.5 <= found.samples[-1].seconds - found.samples[0].seconds < 5.0
    # A program begins as a copy of the one that starts it, and its peak is never less than that.
    assert 0.25 < found.peak_gib < 0.5 + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert 0 < found.cores < 1
    assert (tmp_path / "log").read_text().startswith("step box=8")


def test_a_program_that_fails_or_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="ended with 3"):
        watch([sys.executable, "-c", "raise SystemExit(3)"], our_steps, tmp_path / "log", 1)
    found = watch(
        [sys.executable, "-c", "import time; time.sleep(60)"], our_steps, tmp_path / "log", 1, limit_seconds=0.5
    )
    assert found.stopped
    assert found.seconds < 20


def test_what_other_programs_take_is_seen(tmp_path: Path) -> None:
    code = "import time\nend = time.time() + 2\nwhile time.time() < end: pass"
    other = subprocess.Popen([sys.executable, "-c", code])
    found = watch([sys.executable, "-c", "import time; time.sleep(1.5)"], our_steps, tmp_path / "log", 1)
    other.wait()
    # A machine that is full of other programs gives it less, but uses at least as much in all.
    assert found.others_cores > 0.5
    assert found.cores < 0.3


def test_threads_are_those_asked_for(tmp_path: Path) -> None:
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])"
    watch([sys.executable, "-c", code], our_steps, tmp_path / "log", 3)
    assert (tmp_path / "log").read_text() == "3 3\n"


def test_training_tells_its_steps_box_by_box(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StageTrainer, "run", StageTrainer.run)  # so that it is put back
    trace_steps()
    train(ParticleInput(stack / "particles.star"), tmp_path / "run", overrides=SMALL)
    steps = [our_steps(line) for line in capsys.readouterr().out.splitlines()]
    # 380 of 400 images are trained on, four batches an epoch, of which the last is not told.
    assert steps == [
        *(("16", epoch, images + 400 * epoch) for epoch in range(2) for images in (100, 200, 300)),
        *(("24", 0, images) for images in (100, 200, 300)),
    ]


def test_marks_are_the_best_until_the_reference_time_and_when_they_were_passed() -> None:
    rows = [
        {"epoch": 1, "moving": 0.30, "molecule": 0.40, "R2": 0.1, "seconds": 1000.0},
        {"epoch": 2, "moving": 0.33, "molecule": 0.39, "R2": 0.5, "seconds": 2000.0},
        {"epoch": 3, "moving": 0.32, "molecule": 0.41, "R2": 0.4, "seconds": 4000.0},
        {"epoch": 4, "moving": 0.50, "molecule": 0.50, "R2": 0.9, "seconds": 5000.0},
    ]
    marks = marks_of(rows, minutes=60)  # the epoch that is under way counts
    assert marks == {"moving": 0.33, "molecule": 0.41, "R2": 0.5}
    assert first_passed(rows, marks) == {"moving": 2000.0, "molecule": 4000.0, "R2": 2000.0, "all": 5000.0}
    assert first_passed(rows[:2], {"R2": 0.6}) == {"R2": None, "all": None}
    assert marks_of([], minutes=60) is None


def test_time_of_an_epoch_is_as_measured_or_by_its_rate(tmp_path: Path) -> None:
    rows = [{"epoch": 1}, {"epoch": 2}]
    assert [row["seconds"] for row in timed(rows, tmp_path, 10.0)] == [10.0, 20.0]
    assert [row["seconds"] for row in timed(rows, tmp_path, None)] == [None, None]
    (tmp_path / "seconds.json").write_text(json.dumps({"epochs": {"1": 12.5, "2": 25.5}}))
    assert [row["seconds"] for row in timed(rows, tmp_path, 10.0)] == [12.5, 25.5]


@pytest.mark.slow
def test_the_whole_race(stack: Path, tmp_path: Path) -> None:
    """The stand-in sees 800 images a second at most, its small network twice as many."""
    program, out = tmp_path / "cryodrgn", tmp_path / "race.json"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    command = [sys.executable, BENCHMARKS / "race.py", "--particles", stack / "particles.star", "--truth", stack]
    command += ["--cryodrgn", program, "--threads", "1", "--seconds", "4", "--rounds", "2", "--cryodrgn-minutes", "0.1"]
    command += ["--images", "5", "--work", tmp_path / "work", "--out", out]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent / "src")}
    subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, env=environment)
    result = json.loads(out.read_text())
    pace = result["pace"]["contestants"]
    assert list(pace) == ["this project, 24 pixels", "cryoDRGN", "cryoDRGN, 256 wide"]
    assert 200 < pace["cryoDRGN"]["images_per_second"] < 800 < 1.5 * pace["cryoDRGN, 256 wide"]["images_per_second"]
    assert result["pace"]["ratios"]["cryoDRGN"]["median"] > 0
    (ours,) = result["quality"]["this project"]
    assert ours["seconds"] > 0
    assert ours["R2"] > 0.3
    theirs = result["quality"]["cryoDRGN"]
    assert len(theirs) >= 2
    assert all(later["seconds"] > row["seconds"] for row, later in pairwise(theirs))
    (mark,) = result["quality"]["marks"].values()
    assert mark["this project, seconds"]["all"] == ours["seconds"]
    assert str(tmp_path) not in out.read_text()
    assert out.with_suffix(".md").read_text() == tables(result)

"""Experiments from the plan to the page: every part done once, kept, and gone on with."""

import json
import logging
from pathlib import Path

import pytest
import yaml

from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer_experiments import fits as fits_module
from cryoformer_experiments.circumstances import command_of, shown
from cryoformer_experiments.fits import fit_of, run_fit, run_measured
from cryoformer_experiments.plan import Options, make_plan
from cryoformer_experiments.recipe import load_experiment, read_experiment
from cryoformer_experiments.run import benchmark, run_experiment

RECIPE = {
    "title": "Small",
    "reproduces": "Fig. 0",
    "models": ["adk_1ake_A.cif", "adk_4ake_A.cif"],
    "simulate": {"snr": 0.5, "states": 2},
    "methods": [{"name": "back", "label": "back-projection", "method": "homogeneous"}],
    "sizes": {"tiny": {"stacks": {"adk": {"images": 60, "box": 32, "pixel_size_angstrom": 4.4}}, "images": 4}},
}


@pytest.fixture
def recipe(tmp_path: Path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return read_experiment(path)


def in_this_process(command, log, threads, keep_log=False):
    """In place of a process of its own, which takes seconds to start."""
    log.write_text("done\n")
    return {"exit_code": main(command[3:]), "process_seconds": 1.0, "peak_memory_gib": 0.5}


def test_an_experiment_is_done_once_and_gone_on_with(recipe, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(fits_module, "run_measured", in_this_process)
    caplog.set_level(logging.INFO, "cryoformer")
    out = tmp_path / "out"
    page = run_experiment(recipe, Options(out, "tiny", threads=1))
    result = json.loads((out / "small.json").read_text())
    stack = result["stacks"]["adk"]
    assert stack["fits"]["back"]["commands"] == [
        "cryoformer baseline homogeneous DIR/adk/particles/particles.star --out DIR/adk/back --seed 0"
    ]
    assert stack["fits"]["back"]["peak_memory_gib"] == 0.5
    assert stack["sources"]["back"]["samples"]["samples"] == 6
    assert set(stack["sources"]) == {"back", "noise_free_mean", "mask_alone"}
    assert "| back-projection |" in page.read_text()
    assert str(tmp_path) not in (out / "small.json").read_text()

    before, said = (out / "small.json").read_bytes(), len(caplog.records)
    run_experiment(recipe, Options(out, "tiny", threads=1))
    assert (out / "small.json").read_bytes() == before
    assert not [record for record in caplog.records[said:] if "fitting" in record.message or "scor" in record.message]

    for options, message in (
        (Options(out, "tiny", seed=1), "another seed"),
        (Options(out / "adk", "tiny"), "holds no experiment"),
    ):
        with pytest.raises(InputError, match=message):
            run_experiment(recipe, options)


def test_a_finished_fit_that_was_asked_for_differently_is_not_taken(recipe, tmp_path, monkeypatch) -> None:
    def pretend(command, log, threads, keep_log=False):
        return {"exit_code": 0, "process_seconds": 1.0, "peak_memory_gib": 0.5}

    monkeypatch.setattr(fits_module, "run_measured", pretend)
    experiment = load_experiment("continuous")
    plan = make_plan(experiment, Options(tmp_path, "tiny"))
    fit = fit_of(plan, plan.stacks[0], plan.methods[0])
    record = run_fit(plan, fit, 1.0)
    assert run_fit(plan, fit, 1.0) == record
    with pytest.raises(InputError, match="choose another --out"):
        run_fit(plan, fit, 2.0)


def test_an_interrupted_run_goes_on_and_an_interrupted_baseline_begins_again(tmp_path, monkeypatch) -> None:
    seen = []

    def interrupted(command, log, threads, keep_log=False):
        seen.append(command)
        folder = Path(command[command.index("--out") + 1])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(fits_module, "run_measured", interrupted)
    plan = make_plan(load_experiment("continuous"), Options(tmp_path, "tiny"))
    for method in plan.methods[0], plan.methods[1]:
        fit = fit_of(plan, plan.stacks[0], method)
        fit.folder.parent.mkdir(parents=True, exist_ok=True)
        for minutes in (1.0, 1.0, 2.0):
            with pytest.raises(KeyboardInterrupt):
                run_fit(plan, fit, minutes)
            (fit.folder / "left").touch()
    # A run goes on while the same is asked for.
    assert ["--resume" in command for command in seen] == [False, True, False, False, False, False]


def test_a_fit_that_fails_is_recorded_and_tried_again(tmp_path, monkeypatch) -> None:
    codes = iter([2, 0])

    def fails_once(command, log, threads, keep_log=False):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("reading\ncryoformer: error: it broke\n")
        return {"exit_code": next(codes), "process_seconds": 1.0, "peak_memory_gib": None}

    monkeypatch.setattr(fits_module, "run_measured", fails_once)
    plan = make_plan(load_experiment("continuous"), Options(tmp_path, "tiny"))
    fit = fit_of(plan, plan.stacks[0], plan.methods[1])
    assert run_fit(plan, fit, 1.0)["said"] == "cryoformer: error: it broke"
    assert run_fit(plan, fit, 1.0)["exit_code"] == 0


def test_time_and_memory_are_those_of_the_process(tmp_path: Path) -> None:
    """200 MB touched in a child are seen; what this process holds is not."""
    code = "import time; block = bytearray(200 * 2**20); time.sleep(0.2); print('said')"
    import sys

    measured = run_measured([sys.executable, "-c", code], tmp_path / "x.log", threads=1)
    assert measured["exit_code"] == 0
    assert 0.2 <= measured["process_seconds"] < 30
    assert 0.2 <= measured["peak_memory_gib"] < 0.26
    assert (tmp_path / "x.log").read_text() == "said\n"
    assert run_measured([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "x.log", 1)["exit_code"] == 3
    threads = "import os; print(os.environ['OMP_NUM_THREADS'])"
    run_measured([sys.executable, "-c", threads], tmp_path / "x.log", threads=7)
    assert (tmp_path / "x.log").read_text() == "7\n"


def test_published_commands_hold_no_paths_of_the_machine(tmp_path: Path) -> None:
    stack = tmp_path / "data" / "set"
    stack.mkdir(parents=True)
    for name in ("particles.star", "truth.npz"):
        (stack / name).touch()
    options = Options(tmp_path / "out", particles=stack / "particles.star", truth=stack, minutes=2.0, threads=2)
    plan = make_plan(load_experiment("spike"), options)
    assert command_of(plan) == (
        "cryoformer benchmark spike --out DIR --size everyday --minutes 2 --seed 0 --threads 2 "
        "--particles particles.star --truth set"
    )
    words = ["baseline", str(stack / "particles.star"), "--out", str(tmp_path / "out" / "set" / "a"), "--set", "x=1/2"]
    assert shown(plan, words) == "baseline particles.star --out DIR/set/a --set x=1/2"


def test_the_budget_needs_the_method_that_sets_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("cryoformer_experiments.run.make_stack", lambda stack, show: None)
    with pytest.raises(InputError, match="its time budget is what cryoformer takes"):
        benchmark("continuous", Options(tmp_path / "out", "tiny", methods=("sfbp",)))


def test_the_command_lists_experiments_and_asks_for_what_is_missing(capsys) -> None:
    assert main(["benchmark", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "continuous: One continuous motion (Fig. 4" in listed
    assert len(listed.splitlines()) >= 4
    assert main(["benchmark", "continuous"]) == 2
    assert "--out DIR" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["continuous", "ablations", "homogeneous", "two-motions", "compositional"])
def test_a_tiny_experiment_of_the_package_runs_as_a_whole(name: str, tmp_path: Path) -> None:
    page = benchmark(name, Options(tmp_path / "out", "tiny", threads=1))
    result = json.loads((tmp_path / "out" / f"{name}.json").read_text())
    (stack,) = result["stacks"].values()
    assert not any(fit["failed"] for fit in stack["fits"].values())
    assert all(fit["peak_memory_gib"] > 0.1 for fit in stack["fits"].values())
    assert set(stack["fits"]) <= set(stack["sources"])
    assert page.is_file()

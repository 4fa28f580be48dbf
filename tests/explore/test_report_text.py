"""What the report says of runs whose truth has several motions or compositions."""

from pathlib import Path

import numpy as np
import pytest

from assess.toy_mixture import write_mixture
from assess.toy_run import BOX, PARTICLES, PIXEL_SIZE, ToyRun, write_truth
from cryoformer.assess.evaluate import evaluate_run
from cryoformer.assess.ground_truth import load_truth
from cryoformer.explore.motion import true_motion
from cryoformer.explore.report_text import evaluation_table, outlier_words, summary, warnings
from cryoformer.explore.trajectory import truth_trajectory

COLUMNS = {
    "one": [],
    "motions": ["latents: R² of each coordinate"],
    "parts": ["latents: accuracy of compositions (25 neighbours)", "latents: adjusted Rand index (k-means)"],
}


def truth_folder(folder: Path, kind: str) -> Path:
    if kind == "one":
        return write_truth(folder)
    write_mixture(folder, motions=kind == "motions", compositions=kind == "parts")
    return folder


@pytest.mark.parametrize("kind", list(COLUMNS))
def test_tables_have_a_column_for_what_there_is_several_of(tmp_path: Path, kind: str) -> None:
    run = ToyRun(tmp_path)
    evaluation = evaluate_run(run, truth_folder(tmp_path / "truth", kind), images=5)
    header, rows = evaluation_table(evaluation)
    assert header[-len(COLUMNS[kind]) :] == COLUMNS[kind] or kind == "one"
    assert not (set(header) & {name for names in COLUMNS.values() for name in names}) - set(COLUMNS[kind])
    assert {len(row) for row in rows} == {len(header)}
    text = summary(run, evaluation)
    assert ("true motion with" in text, "true motions with" in text, "true compositions" in text) == (
        kind == "one",
        kind == "motions",
        kind == "parts",
    )
    # The run knows of neither the two motions nor the compositions.
    complaints = " ".join(warnings(run, evaluation, evaluation_is_older=False))
    assert ("of the coordinate found worst" in complaints) == (kind == "motions")
    assert ("hardly tell the true compositions" in complaints) == (kind == "parts")


def test_trajectory_and_motion_of_the_truth_change_one_thing(tmp_path: Path) -> None:
    write_mixture(tmp_path / "both")
    truth = load_truth(tmp_path / "both", BOX, PIXEL_SIZE, PARTICLES)
    path = truth_trajectory(truth.state_of_image[:, None].astype(np.float64), truth)
    assert path.states is not None
    assert len(np.unique(truth.state_coordinates[path.states, 1])) == 1
    assert len(path.states) == 3
    found = true_motion(truth)
    assert found is not None
    assert found[1] == (-1.0, 1.0)
    write_mixture(tmp_path / "parts", motions=False)
    parts = load_truth(tmp_path / "parts", BOX, PIXEL_SIZE, PARTICLES)
    assert true_motion(parts) is None
    assert truth_trajectory(parts.state_of_image[:, None].astype(np.float64), parts).labels == [
        "composition 1",
        "composition 2",
    ]


def test_a_run_that_was_cut_short_is_called_preliminary(tmp_path: Path) -> None:
    run = ToyRun(tmp_path)
    assert not [line for line in warnings(run, None, False) if "cut short" in line]
    run.metrics.append({"stage": "done", "cut_short": ["0.3 of 2 epochs at 64 pixels"]})
    assert "0.3 of 2 epochs at 64 pixels" in warnings(run, None, False)[0]
    # What counts is how the last call ended.
    run.metrics.append({"stage": "done", "cut_short": []})
    assert not [line for line in warnings(run, None, False) if "cut short" in line]


def test_particles_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    run = ToyRun(tmp_path / "run")
    assert outlier_words(run).startswith("15 particles (12.5%) fit worse than they")
    assert "select run --drop-outliers" in outlier_words(run)
    run.outlier_score = np.zeros(PARTICLES)
    assert outlier_words(run).startswith("No particle fits worse")

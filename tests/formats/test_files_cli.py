"""The commands ``select`` and ``downsample``, and particles chosen by a run's latents."""

import shutil

import numpy as np
import pytest

from cryoformer.assess.latent_space import principal_coordinates
from cryoformer.cli import main
from cryoformer.explore import selection
from cryoformer.formats import load_particles


class FinishedRun:
    """What selecting needs of a run."""

    outlier_score = np.array([0.0, -1.0, 3.5, 12.0])

    def __init__(self, path, particles, latents):
        self.path, self.latents = path, latents
        self.config = {"particles": str(particles), "datadir": None}


@pytest.fixture
def run(dataset, tmp_path, monkeypatch):
    """A run of rows 4, 3, 1, 0 of the file, in that order."""
    particles = dataset.write()
    latents = np.array([[0.0, 0.1], [1.0, 0.0], [2.0, 0.2], [10.0, 0.1]], np.float32)
    folder = tmp_path / "run"
    (folder / "analysis").mkdir(parents=True)
    (folder / "selections").mkdir()
    (folder / "config.yaml").touch()
    np.save(folder / "rows.npy", [4, 3, 1, 0])
    np.save(folder / "selections" / "open.npy", [0, 3])
    np.savez(folder / "analysis" / "latent_space.npz", labels=np.array([0, 0, 1, 2]), centres=np.array([0, 2, 3]))
    monkeypatch.setattr(selection, "open_run", lambda path: FinishedRun(path, particles, latents))
    return folder


def selected(tmp_path, *arguments) -> list[str]:
    """Image names of the selection that the command writes."""
    out = tmp_path / "selected" / "chosen.star"
    assert main(["select", *map(str, arguments), "--out", str(out)]) == 0
    load_particles(out)
    return [line.split()[0] for line in out.read_text().splitlines() if "@" in line]


def names(dataset, rows) -> list[str]:
    return [dataset.particles["rlnImageName"][row] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (["--cluster", 1], [4, 3]),
        (["--cluster", 1, "--cluster", 3], [4, 3, 0]),
        (["--cluster", 1, "--name", "open"], [4]),
        (["--name", "open"], [4, 0]),
        (["--half", 2], [3, 1]),
        (["--half", 1, "--cluster", 3], [0]),
        (["--drop-outliers"], [4, 3, 1]),
        (["--outliers-above", 3], [4, 3]),
        (["--drop-outliers", "--outliers-above", 12, "--cluster", 3], [0]),
    ],
)
def test_particles_of_a_run_are_rows_of_its_file(dataset, run, tmp_path, arguments, rows):
    assert selected(tmp_path, run, *arguments) == names(dataset, rows)


def test_outliers_of_a_run_without_scores(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(FinishedRun, "outlier_score", None)
    assert main(["select", str(run), "--drop-outliers", "--out", str(tmp_path / "a.star")]) == 2
    assert "train again" in capsys.readouterr().err


def test_outliers_of_a_file(dataset, tmp_path, capsys):
    assert main(["select", str(dataset.write()), "--drop-outliers", "--out", str(tmp_path / "a.star")]) == 2
    assert "select particles of a run" in capsys.readouterr().err


def test_latent_box_in_principal_coordinates(dataset, run, tmp_path):
    latents = np.array([[0.0, 0.1], [1.0, 0.0], [2.0, 0.2], [10.0, 0.1]])
    first = principal_coordinates(latents).coordinates[:, 0]
    low, high = np.sort(first)[[1, 2]] + [-0.01, 0.01]
    rows = np.array([4, 3, 1, 0])[(first >= low) & (first <= high)]
    assert selected(tmp_path, run, f"--latent-box={low},{high}") == names(dataset, rows)
    assert len(selected(tmp_path, run, f"--latent-box=,{high},,")) == int((first <= high).sum())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", 4], "are 1 to 3"),
        (["--cluster", 0], "are 1 to 3"),
        (["--latent-box", "0,1,2"], "expected pairs min,max"),
        (["--latent-box", "0,x"], "expected pairs min,max"),
        (["--latent-box", "0,1,0,1,0,1"], "the run has 2 of them"),
        (["--latent-box", "100,101"], "no particle of the run"),
        (["--name", "closed"], "no such selection in"),
    ],
)
def test_criteria_that_do_not_fit(run, tmp_path, capsys, arguments, message):
    assert main(["select", str(run), *map(str, arguments), "--out", str(tmp_path / "a.star")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.star").exists()


def test_without_analysis(run, tmp_path, capsys):
    shutil.rmtree(run / "analysis")
    assert main(["select", str(run), "--cluster", "1", "--out", str(tmp_path / "a.star")]) == 2
    assert "run: cryoformer analyze" in capsys.readouterr().err


def test_particles_of_a_file(dataset, tmp_path, capsys):
    path = dataset.write()
    assert selected(tmp_path, path, "--half", 1) == names(dataset, [0, 2, 4])
    assert len(selected(tmp_path, path, "--random", 2, "--seed", 3)) == 2
    (tmp_path / "rows.txt").write_text("4\n1\n")
    assert selected(tmp_path, path, "--ind", tmp_path / "rows.txt") == names(dataset, [1, 4])
    assert main(["select", str(path), "--cluster", "1", "--out", str(tmp_path / "a.star")]) == 2
    assert "select particles of a run" in capsys.readouterr().err


def test_downsample(dataset, tmp_path, capsys):
    path = dataset.write()
    assert main(["downsample", str(path), "--box", "4", "--out", str(tmp_path / "small"), "--dtype", "float16"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "small" / "particles.star")
    assert load_particles(tmp_path / "small" / "particles.star").boxes.tolist() == [4] * 5
    assert main(["downsample", str(path), "--box", "5", "--out", str(tmp_path / "odd")]) == 2

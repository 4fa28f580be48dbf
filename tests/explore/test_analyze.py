"""The whole of ``analyze`` on the toy run: what is written, that it can be read again, and that it can be repeated."""

import json
from pathlib import Path

import numpy as np
import pytest

from assess.toy_run import BOX, PARTICLES, PIXEL_SIZE, write_truth
from cryoformer.errors import InputError
from cryoformer.explore import gallery, morph, motion
from cryoformer.explore.analyze import analyze
from cryoformer.explore.findings import AnalysisOptions
from cryoformer.files import read_mrc_volume
from explore.toy import ExploredToy


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.full((24, 24, 3), 200, np.uint8)
    monkeypatch.setattr(motion, "BOOTSTRAPS", 2)
    monkeypatch.setattr(gallery, "render_surface", lambda *_: picture)
    monkeypatch.setattr(morph, "render_surface", lambda *_, **__: picture)


def test_everything_is_written_and_an_old_analysis_is_replaced(tmp_path: Path) -> None:
    run = ExploredToy(tmp_path / "run")
    old = run.path / "analysis" / "trajectories" / "component_7" / "frame_000.mrc"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    points = np.array([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]])
    truth = write_truth(tmp_path / "truth")
    report = analyze(run, AnalysisOptions(truth, clusters=4, points=points, between=(0, 4)), "cpu")
    assert report.read_text().startswith("<!DOCTYPE html>")
    folder = run.path / "analysis"
    assert not old.exists()

    with np.load(folder / "latent_space.npz", allow_pickle=False) as space:
        assert space["coordinates"].shape == (PARTICLES, 2)
        assert np.bincount(space["labels"]).shape == space["centres"].shape == (4,)
        again = space["mean"] + space["coordinates"] @ space["components"]
        np.testing.assert_allclose(again, run.latents, atol=1e-4)
    for name in ("flexibility", "uncertainty", "local_resolution", "attention/part_01", "states/state_04"):
        volume, pixel_size = read_mrc_volume(folder / f"{name}.mrc")
        assert volume.shape == (BOX, BOX, BOX)
        assert pixel_size == PIXEL_SIZE
    np.testing.assert_allclose(np.load(folder / "trajectories" / "points.npy"), points)
    for name, frames in (("component_1", 11), ("density_path", 11), ("points", 3)):
        assert len(list((folder / "trajectories" / name).glob("frame_*.mrc"))) == frames
        assert (folder / "trajectories" / f"{name}.gif").stat().st_size > 0
        assert "vseries play" in (folder / "trajectories" / f"{name}.cxc").read_text()
    assert len(list((folder / "attention").glob("query_??.mrc"))) == 8
    assert "state_01.mrc state_02.mrc" in (folder / "states" / "states.cxc").read_text()

    numbers = json.loads((folder / "analysis.json").read_text())
    assert numbers["particles"] == PARTICLES
    assert sum(cluster["share"] for cluster in numbers["clusters"]) == pytest.approx(1.0)
    assert numbers["truth"]["roc_auc"]["flexibility"]["molecule"] > 0.99
    assert numbers["truth"]["distance_ratio"] == pytest.approx(1.0, abs=0.1)
    assert sorted(q for part in numbers["parts"] for q in part["queries"]) == list(range(1, 9))


def test_query_maps_lie_where_their_points_are(tmp_path: Path) -> None:
    import mrcfile

    run = ExploredToy(tmp_path)
    analyze(run, AnalysisOptions(clusters=2))
    with mrcfile.open(tmp_path / "analysis" / "attention" / "query_01.mrc") as mrc:
        origin = np.array([mrc.header.origin.z, mrc.header.origin.y, mrc.header.origin.x])
        shape = mrc.data.shape
    filled = np.nonzero(run.model.window.numpy())
    expected = np.array([axis.min() for axis in filled]) * PIXEL_SIZE
    np.testing.assert_allclose(origin, expected)
    assert shape == tuple(int(axis.max() - axis.min()) + 1 for axis in filled)


def test_a_network_without_attention_still_has_parts(tmp_path: Path) -> None:
    analyze(ExploredToy(tmp_path, decoder="concatenate"), AnalysisOptions(clusters=2))
    numbers = json.loads((tmp_path / "analysis" / "analysis.json").read_text())
    assert numbers["parts"][0]["queries"] is None
    assert (tmp_path / "analysis" / "attention" / "part_01.mrc").exists()
    assert not list((tmp_path / "analysis" / "attention").glob("query_*"))


@pytest.mark.parametrize(
    ("options", "device", "message"),
    [
        (AnalysisOptions(clusters=0), "cpu", "--clusters 0: expected 1 to 120"),
        (AnalysisOptions(between=(0, 120)), "cpu", "no particle 120"),
        (AnalysisOptions(), "teapot", "--device teapot: cannot be used"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, options: AnalysisOptions, device: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        analyze(ExploredToy(tmp_path), options, device)
    assert not (tmp_path / "report.html").exists()


def test_latents_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    run = ExploredToy(tmp_path)
    run.latents[3, 0] = np.nan
    with pytest.raises(InputError, match="the run has failed"):
        analyze(run, AnalysisOptions())


def test_into_another_folder_with_maps_of_all_queries_or_the_largest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryoformer.explore.analysis_files.LARGEST_QUERIES", 3)
    run = ExploredToy(tmp_path / "run")
    run.path.mkdir()
    report = analyze(run, AnalysisOptions(clusters=2, out=tmp_path / "mine"))
    assert report == tmp_path / "mine" / "report.html"
    assert not any(run.path.iterdir())
    assert len(list((tmp_path / "mine/analysis/attention").glob("query_??.mrc"))) == 3
    analyze(run, AnalysisOptions(clusters=2, out=tmp_path / "mine", all_queries=True))
    assert len(list((tmp_path / "mine/analysis/attention").glob("query_??.mrc"))) == 8

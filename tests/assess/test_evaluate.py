"""A finished run against its truth, from perfect to blind."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from assess.toy_mixture import write_mixture
from assess.toy_run import BOX, PARTICLES, PIXEL_SIZE, STATES, ToyRun, write_truth
from cryoformer.assess.compare import markdown_table, table_of
from cryoformer.assess.evaluate import evaluate, evaluate_run, evaluate_sources, strided
from cryoformer.assess.ground_truth import load_truth
from cryoformer.decode.volume_source import VolumeSource
from cryoformer.errors import InputError
from cryoformer.files import write_mrc_volume
from cryoformer.imaging.fsc import perfect_auc


@pytest.fixture
def truth_folder(tmp_path: Path) -> Path:
    return write_truth(tmp_path / "truth")


def test_a_perfect_run_scores_the_maximum_and_beats_the_consensus(tmp_path: Path, truth_folder: Path) -> None:
    result = evaluate_run(ToyRun(tmp_path), truth_folder, images=30)
    ours, consensus = result["sources"]["cryoformer"], result["sources"]["consensus"]
    for mask in ("molecule", "moving"):
        assert ours["per_image"][mask]["auc_mean"] == pytest.approx(perfect_auc(BOX))
        assert ours["per_state"][mask]["resolution_angstrom"] == [8.0] * STATES
        assert result["cryoformer_over_consensus"]["per_image"][mask] > 1.0
    assert consensus["per_image"]["moving"]["auc_mean"] < consensus["per_image"]["molecule"]["auc_mean"]
    assert ours["latents"]["knn_r2"] > 0.9
    assert consensus["latents"] is None
    assert len(ours["per_image"]["moving"]["auc"]) == 30


def test_a_run_that_ignores_its_latents_scores_as_the_mean(tmp_path: Path, truth_folder: Path) -> None:
    result = evaluate_run(ToyRun(tmp_path, blend=0.0), truth_folder, images=30)
    mean = result["sources"]["noise_free_mean"]
    for kind in ("per_image", "per_state"):
        for mask in ("molecule", "moving"):
            expected = pytest.approx(mean[kind][mask]["auc_mean"], abs=1e-5)
            assert result["sources"]["cryoformer"][kind][mask]["auc_mean"] == expected
            assert result["cryoformer_over_consensus"][kind][mask] == pytest.approx(1.0, abs=1e-4)


def test_the_moving_region_orders_the_sources(tmp_path: Path, truth_folder: Path) -> None:
    sources = evaluate_run(ToyRun(tmp_path), truth_folder, images=20)["sources"]
    names = ["mask_alone", "consensus", "subspace", "cryoformer"]
    areas = [sources[name]["per_image"]["moving"]["auc_mean"] for name in names]
    assert areas == sorted(areas)
    assert areas[0] < areas[1] - 0.05


def test_one_volume_for_all_scores_the_same_as_decoding_it_for_each(tmp_path: Path, truth_folder: Path) -> None:
    run = ToyRun(tmp_path, blend=0.0)
    sources = evaluate_run(run, truth_folder, 17)["sources"]
    one, each = (sources[name]["per_image"]["moving"]["auc"] for name in ("consensus", "cryoformer"))
    np.testing.assert_allclose(one, each, atol=2e-6)


def test_other_methods_and_missing_subspaces_are_welcome(tmp_path: Path, truth_folder: Path) -> None:
    run = ToyRun(tmp_path)
    run.subspace = None
    extra = VolumeSource.homogeneous("backprojection", run.states[0], PARTICLES)
    result = evaluate_run(run, truth_folder, 5, extra_sources=[extra])
    assert "subspace" not in result["sources"]
    assert result["sources"]["backprojection"]["per_state"]["molecule"]["auc"][0] == pytest.approx(perfect_auc(BOX))


def test_images_are_strided_evenly_and_never_more_than_there_are() -> None:
    np.testing.assert_array_equal(strided(5000, 100), np.arange(0, 5000, 50))
    np.testing.assert_array_equal(strided(7, 100), np.arange(7))
    with pytest.raises(InputError, match="1 or more"):
        strided(7, 0)


def test_a_state_without_images_is_left_out(tmp_path: Path, truth_folder: Path) -> None:
    archive = dict(np.load(truth_folder / "truth.npz"))
    archive["state"] = np.where(archive["state"] == 2, 3, archive["state"])
    np.savez(truth_folder / "truth.npz", **archive)
    result = evaluate_run(ToyRun(tmp_path), truth_folder, 10)
    assert result["sources"]["cryoformer"]["per_state"]["moving"]["states"] == [0, 1, 3, 4]


def test_the_result_is_written_whole_and_is_what_is_returned(
    tmp_path: Path, truth_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ToyRun(tmp_path / "run")
    monkeypatch.setattr("cryoformer.assess.results.open_run", lambda path: run)
    result = evaluate(run.path, truth_folder, images=10)
    assert json.loads((run.path / "evaluation.json").read_text()) == result
    assert [path.name for path in run.path.iterdir()] == ["evaluation.json"]
    assert result["settings"]["images"] == 10
    assert result["settings"]["particles"] == PARTICLES


def test_a_failed_reconstruction_writes_nothing(
    tmp_path: Path, truth_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ToyRun(tmp_path / "run")
    run.consensus = np.full_like(run.consensus, np.nan)
    monkeypatch.setattr("cryoformer.assess.results.open_run", lambda path: run)
    with pytest.raises(InputError, match="not numbers"):
        evaluate(run.path, truth_folder)
    assert not (run.path / "evaluation.json").exists()


def test_two_motions_in_two_compositions_are_scored(tmp_path: Path) -> None:
    folder = tmp_path / "truth"
    write_mixture(folder)
    truth = load_truth(folder, BOX, PIXEL_SIZE, PARTICLES)
    volumes = list(truth.states())
    latents = truth.state_of_image[:, None].astype(np.float64)

    def decode(points: np.ndarray) -> Iterator[np.ndarray]:
        return (volumes[round(float(point[0]))] for point in points)

    source = VolumeSource("perfect", latents, decode)
    write_mrc_volume(folder / "mask.mrc", np.ones((BOX, BOX, BOX), dtype=np.float32), PIXEL_SIZE)
    result = evaluate_sources([source], truth, images=20)
    assert (result["settings"]["coordinates"], result["settings"]["compositions"]) == (2, 2)
    assert list(result["settings"]["masks"]) == ["molecule", "given", "moving"]
    perfect = result["sources"]["perfect"]
    assert perfect["per_state"]["moving"]["auc_mean"] == pytest.approx(perfect_auc(BOX))
    assert len(perfect["latents"]["coordinates"]) == 2
    assert perfect["latents"]["classes"]["classes"] == 2
    json.dumps(result, allow_nan=False)
    row = table_of(result)[0]
    assert row["R2"] == min(row["R2 of t1"], row["R2 of t2"])
    assert row["class accuracy"] == perfect["latents"]["classes"]["knn_balanced_accuracy"]
    table = markdown_table(table_of(result)).splitlines()
    assert {line.count("|") for line in table} == {table[0].count("|")}
    assert "given AUC" in table[0]


def test_the_blind_reference_weighs_states_by_how_many_images_show_them(tmp_path: Path) -> None:
    write_mixture(tmp_path, motions=False)
    archive = dict(np.load(tmp_path / "truth.npz"))
    rare = np.arange(PARTICLES) < 3
    np.savez(tmp_path / "truth.npz", **archive | {"state": rare.astype(int), "composition": rare.astype(int)})
    truth = load_truth(tmp_path, BOX, PIXEL_SIZE, PARTICLES)
    blind = evaluate_sources([], truth, images=PARTICLES)["sources"]["noise_free_mean"]["per_state"]["moving"]["auc"]
    assert blind[0] > blind[1] + 0.02

"""The report: one file that needs nothing else, with honest warnings."""

import base64
import io
import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assess.toy_run import blob, write_truth
from cryoformer.assess.evaluate import evaluate_run
from cryoformer.errors import InputError
from cryoformer.explore import gallery, motion, report
from cryoformer.explore.findings import AnalysisOptions, find
from cryoformer.explore.moving_parts import choice_words, part_masses, part_places, part_words
from cryoformer.explore.report_text import duration, repeat_command, rows_of, summary, warnings
from cryoformer.imaging.grids import voxel_radii
from cryoformer.parts.density import PartDensities
from cryoformer.parts.motion import LatentTerms, PartMotions
from cryoformer.parts.moving_density import MovingDensity
from cryoformer.progress import RunLog
from explore.toy import ExploredToy


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Surfaces are drawn in full in their own tests; here only the page matters."""
    picture = np.full((8, 8, 3), 255, np.uint8)

    def stand_in(morph: object, path: Path) -> Path:
        Image.fromarray(picture).save(path)
        return path

    monkeypatch.setattr(report, "morph_figure", stand_in)
    monkeypatch.setattr(motion, "BOOTSTRAPS", 2)
    monkeypatch.setattr(report, "motion_frames", lambda morph: [picture])
    monkeypatch.setattr(gallery, "render_surface", lambda *_: picture)


def report_run(run: ExploredToy, truth: Path | None = None) -> Path:
    with RunLog(None) as log:
        return report.write_report(find(run, AnalysisOptions(truth=truth, clusters=3), log))


def run_with_evaluation(folder: Path, blend: float = 1.0) -> tuple[ExploredToy, Path]:
    truth = write_truth(folder / "truth")
    run = ExploredToy(folder / "run", blend=blend)
    run.path.mkdir()
    (run.path / "evaluation.json").write_text(json.dumps(evaluate_run(run, truth, images=10)))
    return run, truth


def test_the_page_is_one_file_that_fetches_nothing(tmp_path: Path) -> None:
    run, truth = run_with_evaluation(tmp_path)
    path = report_run(run, truth)
    page = path.read_text()
    assert path == run.path / "report.html"
    assert path.stat().st_size < 20e6
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(addresses) == 11
    for address in addresses:
        assert address.startswith("data:image/")
        Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1]))).verify()
    assert "url(" not in page
    assert not re.search(r"https?:|fetch\(|import\(|XMLHttpRequest", page)
    assert {p.name for p in (run.path / "figures").iterdir()} == {
        "morph.png", "motion.gif", "landscape.png", "training.png", "fsc.png", "resolution.png", "parts.png",
        "state_01.png", "state_02.png", "state_03.png", "outliers.png",
    }  # fmt: skip


def test_the_meshes_on_the_page_are_whole(tmp_path: Path) -> None:
    page = report_run(ExploredToy(tmp_path)).read_text()
    meshes = re.findall(r'data-vertices="(\d+)"\s+data-faces="(\d+)">([^<]*)</script>', page)
    assert len(meshes) == 3
    for vertices, faces, text in meshes:
        assert int(vertices) > 50
        assert len(base64.b64decode(text)) == 7 * int(vertices) + 6 * int(faces)
    camera = json.loads(re.search(r'id="camera">(.*?)</script>', page)[1])
    np.testing.assert_allclose(np.linalg.det(camera["view"]), 1.0)


def test_numbers_settings_and_command_are_on_the_page(tmp_path: Path) -> None:
    run, truth = run_with_evaluation(tmp_path)
    page = report_run(run, truth).read_text()
    for text in ("120 particle images (24 × 24 pixels of 4 Å)", "0.458", "model.queries", "cryoformer x", "R² = 0.9"):
        assert text in page
    for text in ("The most flexible region moves by", "ROC AUC", "Measured in the same way"):
        assert text in page
    assert "Before you believe it" not in page


def test_null_tests_are_shown_where_run_and_asked_for_where_not(tmp_path: Path) -> None:
    run = ExploredToy(tmp_path)
    assert f"cryoformer validate {tmp_path}" in report_run(run).read_text()
    tests = {
        "null_of_motion": {
            "verdict": "holds", "sentence": "Two dimensions <are> real.", "information": [0.9, 0.4],
            "information_nulls_largest": [0.1, 0.05], "log_likelihood_gain": 0.0123456, "curve": [0.0] * 20,
        },
        "poses": {"verdict": "fails", "sentence": "The poses are off."},
    }  # fmt: skip
    (tmp_path / "validation.json").write_text(json.dumps({"format": 1, **tests}))
    page = report_run(run).read_text()
    for text in (
        "Does something move?",
        "Two dimensions &lt;are&gt; real.",
        "The poses are off.",
        "0.01235",
        "20 values",
    ):
        assert text in page
    assert re.search(r"Does something move\?<span\s+class=\"verdict holds\">yes</span>", page)
    assert re.search(r"Are the poses good enough\?<span\s+class=\"verdict fails\">no</span>", page)
    assert (tmp_path / "figures/nulls.png").is_file()
    assert "nothing on this page proves" not in page
    (tmp_path / "validation.json").write_text("[]")
    with pytest.raises(InputError, match=r"validation\.json: expected names and values"):
        report_run(run)


def test_a_free_energy_is_shown_with_its_caution(tmp_path: Path) -> None:
    run = ExploredToy(tmp_path)
    assert "Free energy" not in report_run(run).read_text()
    facts = {"words": ["Two <wells>.", "One barrier."], "caution": "Not in equilibrium."}
    (tmp_path / "free_energy.json").write_text(json.dumps(facts))
    Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).save(tmp_path / "free_energy.png")
    (tmp_path / "free_energy_plane.json").write_text(json.dumps({"words": ["Four wells."], "caution": "Areas."}))
    page = report_run(run).read_text()
    for text in ("Two &lt;wells&gt;. One barrier.", "Not in equilibrium.", "Free energy along a path", "Four wells."):
        assert text in page


def test_without_truth_it_says_that_nothing_is_proven(tmp_path: Path) -> None:
    page = report_run(ExploredToy(tmp_path)).read_text()
    assert "nothing on this page proves that a motion is real" in page
    assert "first principal component (the largest variation" in page
    assert "Against the truth" not in page


def test_names_from_outside_cannot_break_the_page(tmp_path: Path) -> None:
    run = ExploredToy(tmp_path)
    run.config["particles"] = "<script>alert(1)</script>"
    page = report_run(run).read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


def test_a_decoder_that_ignores_its_latents_is_reported(tmp_path: Path) -> None:
    assert any("hardly uses the latents" in w for w in warnings(ExploredToy(tmp_path, conditioning=0.001), None, False))
    assert not any("hardly uses" in w for w in warnings(ExploredToy(tmp_path, conditioning=0.2), None, False))


def test_poses_that_are_off_are_reported(tmp_path: Path) -> None:
    run = ExploredToy(tmp_path)
    run.metrics.append({"stage": "poses", "are_off": False, "sentence": "No other poses are better."})
    assert not any("poses" in w for w in warnings(run, None, False))
    run.metrics.append({"stage": "poses", "are_off": True, "sentence": "The poses are off by some 3 degrees."})
    assert any("off by some 3 degrees" in w for w in warnings(run, None, False))


def test_uncertain_latents_and_failed_losses_are_reported(tmp_path: Path) -> None:
    run = ExploredToy(tmp_path)
    run.latents_covariance = 1000.0 * run.latents_covariance
    run.metrics.append({"stage": "train", "loss": float("nan")})
    text = " ".join(warnings(run, None, False))
    assert "less certain" in text
    assert "not a number" in text


def test_a_reconstruction_no_better_than_its_consensus_is_reported(tmp_path: Path) -> None:
    run, truth = run_with_evaluation(tmp_path, blend=0.0)
    page = report_run(run, truth).read_text()
    assert "not clearly closer to the truth than the consensus map" in page


def test_an_old_evaluation_is_reported_and_a_broken_one_refused(tmp_path: Path) -> None:
    run, truth = run_with_evaluation(tmp_path)
    (run.path / "latents.npz").write_bytes(b"")
    os.utime(run.path / "evaluation.json", (0, 0))
    page = report_run(run, truth).read_text()
    assert "older than latents.npz" in page
    assert "run <code>cryoformer evaluate</code> again" in page
    (run.path / "evaluation.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        report_run(run, truth)
    (run.path / "evaluation.json").write_text("{}")
    with pytest.raises(InputError, match="another version"):
        report_run(run, truth)


def test_the_resolution_of_the_consensus_is_told_where_half_maps_were_compared(tmp_path: Path) -> None:
    run = ExploredToy(tmp_path)
    assert "Half-maps" not in summary(run, None)
    # 24 pixels of 4 A: 0.143 is reached half-way between shells 6 and 7.
    run.metrics[0]["half_map_fsc"] = [1.0] * 6 + [0.243, 0.043] + [0.0] * 5
    assert "agree to 14.8 Å (FSC 0.143" in summary(run, None)


def test_small_texts(tmp_path: Path) -> None:
    assert [duration(s) for s in (12.0, 600.0, 7200.0)] == ["12 seconds", "10 minutes", "2.0 hours"]
    assert rows_of({"a": 1, "b": {"c": [2, 3]}}) == [("a", "1"), ("b.c", "[2, 3]")]
    run = ExploredToy(tmp_path)
    assert repeat_command(run) == "cryoformer x"
    del run.config["command"]
    assert repeat_command(run).startswith("cryoformer train stack.star --out ")


def run_with_part(folder: Path) -> ExploredToy:
    run = ExploredToy(folder)
    terms = LatentTerms.of_population(torch.from_numpy(run.latents).float())
    coefficients = torch.zeros(1, len(terms.scale), 6)
    coefficients[0, 0, 2] = 0.3
    mask = torch.from_numpy(blob((0, 0, 0), 3.0) > 0.5).float()[None]
    part = torch.from_numpy(blob((0, 0, 0), 2.0)).float()[None]
    run.parts = MovingDensity(
        PartDensities(torch.from_numpy(run.consensus).float(), part, run.pixel_size_angstrom),
        PartMotions(terms, torch.tensor([[0.0, 0.0, 4.0 * run.pixel_size_angstrom]]), coefficients),
        mask,
        torch.stack([part, part], dim=1),
        torch.linspace(1, 0, run.box // 2 + 1)[None],
    )
    run.metrics.append(
        {
            "stage": "part",
            "part": 1,
            "degrees": 57.2,
            "error": 2.0,
            "angstrom": 12.0,
            "angstrom_error": 1.0,
            "axis": [0.0, 0.0, 1.0],
            "elapsed_s": 9.0,
        }
    )
    run.metrics.append(
        {"stage": "own_poses", "part": 1, "kept": True, "degrees": 4.0, "angstrom": 1.5, "elapsed_s": 9.0}
    )
    return run


def test_the_mass_of_a_part_is_that_of_protein_of_its_volume(tmp_path: Path) -> None:
    density = run_with_part(tmp_path).parts
    ball = (voxel_radii(density.densities.box) < 4.0).float()
    density = replace(density, densities=PartDensities(0 * ball, ball[None], 5.0))
    # A protein of 100 kDa fills 121,000 cubic Angstrom.
    assert part_masses(density) == pytest.approx([4 / 3 * math.pi * 20.0**3 / 1212], rel=0.1)


def test_the_report_says_what_moves_and_what_comes_and_goes(tmp_path: Path) -> None:
    run = run_with_part(tmp_path)
    assert choice_words(run) == []
    run.metrics.append({"stage": "parts_choice", "parts": 0, "held_out": -9.0})
    for parts, gain in ((1, 0.5), (2, 0.25)):
        run.metrics.append({"stage": "parts_choice", "parts": parts, "gain": gain, "error": 0.1})
    run.metrics.append({"stage": "kept", "share": 0.3, "comes_and_goes": True})
    _, kept = part_words(run)
    assert "30% of what varies: there density comes and goes" in kept
    (words,) = choice_words(run)
    assert "1 part +0.500 ± 0.100; 2 parts +0.250 ± 0.100. The likeliest model stays." in words
    run.parts = None
    assert choice_words(run)[0].endswith("No part is claimed.")


def test_parts_that_move_are_told_and_shown(tmp_path: Path) -> None:
    run = run_with_part(tmp_path)
    (words,) = part_words(run)
    assert words.startswith("Part 1, 4 kDa (")
    assert "turns by 57 ± 2.0° about the axis (0.00, 0.00, 1.00)" in words
    assert "its centre moves by 12 ± 1.0 Å" in words
    assert "off this path by 4.0°" in words
    (place,) = part_places(run).values()
    assert tuple(np.argwhere(place > 0.5).mean(axis=0).round()) == (run.box // 2 + 4, run.box // 2, run.box // 2)
    page = report_run(run).read_text()
    assert words in page
    assert "the parts that move as one" in page
    assert (run.path / "figures" / "part_fsc.png").stat().st_size > 5000

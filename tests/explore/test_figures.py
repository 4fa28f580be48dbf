"""Plots are drawn for every kind of run, and show what they are given."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assess.toy_run import ToyRun, blob, write_truth
from cryoformer.assess.evaluate import evaluate_run
from cryoformer.assess.fsc_figure import fsc_figure
from cryoformer.assess.latent_space import principal_coordinates
from cryoformer.explore.figures import half_map_figure, landscape_figure, training_figure
from cryoformer.explore.landscape import landscape


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def has_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(picture - np.array(colour)).max(axis=2) < 12).sum() > 30)


VERMILION, BLUE = (213, 94, 0), (0, 114, 178)


def test_fsc_curves_of_all_sources_under_both_masks(tmp_path: Path) -> None:
    evaluation = evaluate_run(ToyRun(tmp_path, blend=0.8), write_truth(tmp_path / "truth"), images=5)
    evaluation["sources"]["another method"] = evaluation["sources"]["consensus"]
    picture = pixels(fsc_figure(evaluation, tmp_path / "fsc.png"))
    half = picture.shape[1] // 2
    for panel in (picture[:, :half], picture[:, half:]):
        assert has_colour(panel, VERMILION)
        assert has_colour(panel, BLUE)


@pytest.mark.parametrize("dimensions", [1, 2, 5])
@pytest.mark.parametrize("with_truth", [False, True])
def test_landscapes_of_any_dimension(tmp_path: Path, dimensions: int, with_truth: bool) -> None:
    rng = np.random.default_rng(0)
    principal = principal_coordinates(rng.standard_normal((300, dimensions)))
    energy = landscape(principal.coordinates[:, :2]) if dimensions > 1 else None
    covariance = np.tile(0.1 * np.eye(dimensions), (300, 1, 1))
    marks = principal.coordinates[[0, 5, 9]]
    truth = rng.uniform(size=300) if with_truth else None
    path = landscape_figure(principal, tmp_path / "landscape.png", energy, truth, covariance, {"a line": marks}, marks)
    assert has_colour(pixels(path), BLUE if dimensions == 1 else VERMILION)


def test_half_maps_are_shown_within_the_molecule(tmp_path: Path) -> None:
    density = blob((0, 0, 0), 4.0)
    path = half_map_figure(
        np.linspace(1.0, 0.0, 13), 4.0, 8.0 + density, 0.1 * density, density, 0.3, (1, 12), tmp_path / "halves.png"
    )
    picture = pixels(path)
    assert has_colour(picture, BLUE)
    middle = picture[:, picture.shape[1] // 3 : 2 * picture.shape[1] // 3]
    assert 0.05 < (middle.std(axis=2) > 20).mean() < 0.6


def test_training_curves_skip_what_was_not_logged(tmp_path: Path) -> None:
    metrics = [
        {"stage": "consensus", "loss": 2.0, "elapsed_s": 1.0},
        {"stage": "train", "loss": float("nan"), "elapsed_s": 2.0, "conditioning": None},
        {"stage": "train", "loss": 1.0, "elapsed_s": 3.0},
    ]
    picture = pixels(training_figure(metrics, tmp_path / "training.png"))
    assert has_colour(picture, BLUE)
    # One panel only: nothing but the loss was logged.
    assert picture.shape[1] < 1.5 * picture.shape[0]


def test_no_metrics_at_all_is_no_error(tmp_path: Path) -> None:
    assert training_figure([], tmp_path / "training.png").exists()

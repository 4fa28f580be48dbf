"""Every baseline through its folder: fitted, opened again, scored."""

import json
from pathlib import Path

import numpy as np
import pytest

from cryoformer.assess.evaluate import evaluate
from cryoformer.baselines.folder import BaselineFolder, fit_baseline, open_baseline
from cryoformer.baselines.interface import METHODS, Baseline, baseline
from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.images.settings import ImageSettings

from .conftest import COUNT

QUICK = {"box": 16, "dimension": 2, "iterations": 6}


@pytest.fixture(scope="module")
def fitted(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaselineFolder]:
    """The quick methods on one stack."""
    settings = {"homogeneous": {}, "subspace": {"subspace": QUICK}, "sfbp": {"epochs": 1, "width": 16, "bases": 2}}
    folder = tmp_path_factory.mktemp("fitted")
    source = ParticleInput(stack / "particles.star")
    return {
        name: fit_baseline(name, source, folder / name, reading=ImageSettings(invert="no"), settings=values)
        for name, values in settings.items()
    }


def test_every_method_is_a_baseline() -> None:
    assert all(isinstance(baseline(method), Baseline) for method in METHODS)


def test_an_opened_folder_is_a_source_of_finite_volumes_of_the_right_grid(fitted) -> None:
    for name, found in fitted.items():
        source = open_baseline(found.path)
        assert source.name == name
        (volume,) = source.particle_volumes(np.array([5]))
        assert volume.shape == (24, 24, 24)
        assert np.isfinite(volume).all()
        assert not (found.path / "cache").exists()


def test_subspace_volumes_follow_the_motion_and_the_homogeneous_map_does_not(fitted, stack: Path) -> None:
    scores = {name: evaluate(fitted[name].path, stack, 12)["sources"][name] for name in ("homogeneous", "subspace")}
    assert scores["homogeneous"]["latents"] is None
    assert scores["subspace"]["latents"]["knn_r2"] > 0.7
    areas = {name: score["per_state"]["moving"]["auc_mean"] for name, score in scores.items()}
    assert areas["subspace"] > areas["homogeneous"] + 0.02
    assert json.loads((fitted["subspace"].path / "evaluation.json").read_text())["settings"]["images"] == 12


def test_linear_volumes_can_be_asked_for_instead(stack: Path, tmp_path: Path) -> None:
    settings = {"subspace": QUICK, "volumes": "linear"}
    found = fit_baseline("subspace", ParticleInput(stack / "particles.star"), tmp_path / "out", settings=settings)
    first, second, between = found.latent_volumes(
        np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])[:, : found.latents.shape[1]]
    )
    np.testing.assert_allclose((first + second) / 2, between, atol=1e-4 * np.abs(between).max())
    assert np.abs(first - second).max() > 0.05 * np.abs(between).max()


def test_what_is_wrong_is_said_before_anything_is_written(stack: Path, tmp_path: Path, fitted) -> None:
    source = ParticleInput(stack / "particles.star")
    with pytest.raises(InputError, match="expected one of homogeneous"):
        fit_baseline("magic", source, tmp_path / "out")
    with pytest.raises(InputError, match=r"setting epochs of homogeneous.*its settings: none"):
        fit_baseline("homogeneous", source, tmp_path / "out", settings={"epochs": 3})
    with pytest.raises(InputError, match="not empty"):
        fit_baseline("homogeneous", source, fitted["sfbp"].path)
    with pytest.raises(InputError, match="no such command"):
        fit_baseline("cryodrgn", source, tmp_path / "drgn", settings={"executable": str(tmp_path / "none")})
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_finished_baseline_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the folder of a finished baseline"):
        open_baseline(tmp_path)


def test_points_of_the_wrong_dimension_are_refused(fitted) -> None:
    with pytest.raises(InputError, match="expected rows of 2 numbers"):
        fitted["sfbp"].latent_volumes(np.zeros((1, 5)))


def test_a_baseline_can_be_fitted_on_half_of_the_particles(stack: Path, tmp_path: Path) -> None:
    """The two halves share no particle, and together they are all."""
    rows = []
    for half in ("1", "2"):
        out = tmp_path / half
        assert main(["baseline", "homogeneous", str(stack / "particles.star"), "--out", str(out), "--half", half]) == 0
        fitted = open_baseline(out)
        used = ParticleInput.from_facts(fitted.facts["input"]).load(0).rows
        assert used is not None
        rows.append(set(used.tolist()))
        assert len(fitted.latents) == len(rows[-1])
    assert not rows[0] & rows[1]
    assert len(rows[0] | rows[1]) == COUNT


def test_a_time_limit_is_a_positive_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--max-minutes -1: expected a number above 0"):
        fit_baseline("sfbp", ParticleInput(tmp_path / "p.star"), tmp_path / "out", max_minutes=-1.0)

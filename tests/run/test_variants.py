"""Every variant of the paper's table 1 is a setting of a run: it trains, finishes, and is read as any other run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryoformer.checkpoint import load_tensors
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.run.run_folder import RunPaths, open_run
from cryoformer.run.train import train
from cryoformer.training.train_config import load_config
from cryoformer.training.trainer import StageTrainer
from toy_images import BOX

SMALL = {
    "subspace": {"box": 16, "dimension": 2, "iterations": 3},
    "stages": [{"box": 16, "epochs": 0.5, "batch": 32}, {"box": 24, "epochs": 0.2, "batch": 32}],
    "latent_states": 8,
    "parts": 0,
    "refine_latents": False,
    "invert": "no",
}
# No larger than 16 pixels: quick where two stages are wanted and nothing else.
COARSE = {
    "stages": [{"box": 12, "epochs": 1, "batch": 32}, {"box": 16, "epochs": 0.5, "batch": 32}],
    "full_box": False,
}
MODEL = {"queries": 4, "channels": 8, "hash_levels": 4, "hash_table_log2": 10, "encoder_layers": 2, "encoder_width": 16}
VARIANTS: dict[str, dict[str, Any]] = {
    "fourier": {"model": {"domain": "fourier"}},
    "fourier without a base": {
        "model": {"domain": "fourier"},
        "base": False,
        "stages": [{"box": 24, "epochs": 5, "batch": 32}],  # all of the density, not only what varies
    },
    "token": {"model": {"spatial_attention": "token"}},
    "positional": {"model": {"spatial_encoding": "positional", "positional_width": 16}},
    "concatenate": {"model": {"decoder": "concatenate"}},
    "image encoder": {"model": {"encoder": "mlp"}},
    "free latents": {"latents": "free"},
    "free latents, read by likelihood": {"latents": "free", "refine_latents": True},
}
WITHOUT_SUBSPACE = {"free latents", "free latents, read by likelihood"}

Variant = Callable[..., Path]


@pytest.fixture
def variant(particle_file: Path, tmp_path: Path) -> Variant:
    """``variant(preset="default", **settings)``: the folder of a run of a second or two with these settings."""

    def run(preset: str = "default", resume: bool = False, **settings: Any) -> Path:
        settings = SMALL | settings | {"model": MODEL | settings.get("model", {})}
        given = None if resume else settings
        train(ParticleInput(particle_file), tmp_path / "run", preset=preset, resume=resume, overrides=given)
        return tmp_path / "run"

    return run


def check(path: Path) -> None:
    run = open_run(path)
    k = run.latents.shape[1]
    assert run.latents.shape == (300, k)
    assert np.isfinite(run.latents).all()
    assert run.latents.std(axis=0).min() > 0
    assert np.linalg.eigvalsh(run.latents_covariance).min() > 0
    first, last = run.latents[:, 0].argmin(), run.latents[:, 0].argmax()
    a, b = run.particle_volumes([int(first), int(last)])
    assert a.shape == (BOX, BOX, BOX)
    assert np.isfinite(a).all()
    assert np.abs(a - b).max() > 0
    for source in run.sources:
        assert next(source.particle_volumes(np.array([7]))).shape == (BOX, BOX, BOX)


@pytest.mark.parametrize("name", VARIANTS)
def test_variant_is_a_run_like_any_other(variant: Variant, name: str) -> None:
    path = variant(**VARIANTS[name])
    check(path)
    assert RunPaths(path).checkpoint("subspace").exists() == (name not in WITHOUT_SUBSPACE)
    assert (path / "volumes/flexible.mrc").exists()
    assert {source.name for source in open_run(path).sources} >= {"cryoformer", "consensus"}


def test_preset_paper_is_the_paper_s_network(variant: Variant) -> None:
    config = load_config("paper")
    assert (config.model.encoder, config.model.queries, config.model.channels) == ("mlp", 64, 64)
    assert (config.model.encoder_layers, config.model.encoder_width) == (10, 128)
    assert not config.fits_ppca
    path = variant(preset="paper", stages=[{"box": 128, "epochs": 1, "batch": 32}])
    check(path)
    facts = open_run(path).metrics
    (found,) = [line for line in facts if line["stage"] == "encoder_latents"]
    assert found["dimension"] == 2
    assert 0 < found["share"] <= 1
    # The encoder that read the images is kept.
    encoder, _ = load_tensors(RunPaths(path).checkpoint("image_encoder"))
    assert encoder["network.first.weight"].shape == (16, BOX**2)
    assert open_run(path).model.network.config.encoder == "linear"
    assert not RunPaths(path).checkpoint("subspace").exists()


def test_the_paper_s_network_from_the_subspace_s_latents(variant: Variant) -> None:
    model = {"encoder": "latent"}
    path = variant(preset="paper", stages=[{"box": 128, "epochs": 0.5, "batch": 32}], model=model)
    check(path)
    assert open_run(path).model.network.config.encoder == "latent"


@pytest.mark.parametrize("settings", [{"latents": "free"}, {"model": {"encoder": "mlp"}, "base": False}])
def test_killed_variant_goes_on_as_if_undisturbed(
    variant: Variant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """After stage 1's epoch, in stage 2: held-out latents, the table of free latents and its optimiser are all kept."""
    settings = COARSE | settings
    path = variant(**settings)
    whole = open_run(path).latents
    path.rename(tmp_path / "whole")
    step, steps = StageTrainer._step, [0]

    def dying(self: StageTrainer, *given: Any) -> tuple[float, float]:
        steps[0] += 1
        if steps[0] > 11:
            raise KeyboardInterrupt
        return step(self, *given)

    monkeypatch.setattr(StageTrainer, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        variant(**settings, checkpoint_seconds=1e-9)
    monkeypatch.setattr(StageTrainer, "_step", step)
    assert np.array_equal(open_run(variant(resume=True)).latents, whole)


def test_only_known_latents_end_a_stage_early(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryoformer.training.trainer.FALL", -1e9)  # any epoch is a fall

    def epochs(path: Path) -> int:
        return sum(line["stage"] == "train_12" for line in open_run(path).metrics)

    settings = {"stages": [{"box": 12, "epochs": 3, "batch": 64}], "full_box": False}
    path = variant(latents="free", **settings)
    assert epochs(path) == 3
    path.rename(path.with_name("free"))
    assert epochs(variant(**settings)) == 2

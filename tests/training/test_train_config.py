"""Presets, recipes and overrides; every wrong setting is one clear error."""

from pathlib import Path

import pytest

from cryoformer.errors import InputError
from cryoformer.training.train_config import PRESETS, Stage, TrainConfig, load_config, resolve_stages
from cryoformer.training.trainer import images_a_step


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_are_valid_and_survive_a_round_trip(preset: str) -> None:
    config = load_config(preset)
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


def test_overrides_win_over_recipe_over_preset(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 4\nlearning_rate: 0.5\nmodel:\n  queries: 16\n")
    config = load_config("quick", recipe, {"seed": 9, "model.channels": 8})
    assert (config.seed, config.learning_rate, config.model.queries, config.model.channels) == (9, 0.5, 16, 8)
    assert config.subspace.iterations == PRESETS["quick"]["subspace"]["iterations"]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"model.queries": 0}, "queries"),
        ({"model.nonsense": 1}, "nonsense"),
        ({"stages": [{"box": 4, "epochs": 1}]}, "stages.0.box"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"model.encoder": "mlp", "latents": "free"}, "latents"),
        ({"latents": "free", "devices": 2}, "devices"),
        ({"latents": "free", "images_per_state": 2}, "images_per_state"),
        ({"model.domain": "fourier", "model.decoder": "concatenate"}, "domain"),
    ],
)
def test_wrong_settings_are_named(overrides: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        load_config("default", None, overrides)


def test_unreadable_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{:")
    with pytest.raises(InputError, match=r"recipe\.yaml"):
        load_config("default", recipe)


def test_stages_end_at_the_full_box_and_repeat_none() -> None:
    config = TrainConfig(stages=(Stage(box=32, epochs=1), Stage(box=48, epochs=2), Stage(box=64, epochs=3)))
    assert [stage.box for stage in resolve_stages(config, 128)] == [32, 48, 128]
    assert [(stage.box, stage.epochs) for stage in resolve_stages(config, 40)] == [(32, 1), (40, 3)]
    assert [stage.box for stage in resolve_stages(config.model_copy(update={"full_box": False}), 128)] == [32, 48, 64]


@pytest.mark.parametrize(
    ("images", "points", "batch"),
    [(500, 1000, 32), (4_750, 15_000, 32), (9_500, 15_000, 64), (19_000, 102_000, 128), (10**6, 10**6, 32)],
)
def test_a_step_has_more_images_where_there_are_many(images: int, points: int, batch: int) -> None:
    assert images_a_step(images, points) == batch

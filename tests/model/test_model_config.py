"""ModelConfig: the paper's sizes by default, and clear refusals."""

import dataclasses
import importlib.util
import sys

import pytest

from cryoformer.errors import InputError
from cryoformer.model import model_config as checked_config
from cryoformer.model.model_config import ModelConfig


@pytest.fixture(scope="module")
def unchecked_config():
    """The settings as users have them: without the type checker of the tests, which would refuse in its own words."""
    spec = importlib.util.spec_from_file_location("cryoformer_model_config_unchecked", checked_config.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module.ModelConfig
    del sys.modules[spec.name]


def test_defaults_are_those_of_the_paper() -> None:
    config = ModelConfig()
    assert (config.queries, config.channels, config.blocks) == (64, 64, 3)
    assert (config.hash_levels, config.hash_features, config.hash_table_log2, config.base_resolution) == (16, 2, 15, 16)
    assert (config.spatial_hidden, config.encoder_layers, config.encoder_width) == (16, 10, 128)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"queries": 0}, "queries"),
        ({"channels": 2.5}, "channels"),
        ({"blocks": -1}, "blocks"),
        ({"attention_heads": 3}, "attention_heads"),
        ({"hash_table_log2": 30}, "hash_table_log2"),
        ({"finest_resolution": 8}, "finest_resolution"),
        ({"encoder": "cnn"}, "encoder"),
        ({"decoder": "none"}, "decoder"),
        ({"spatial_attention": "voxel"}, "spatial_attention"),
        ({"query_injection": float("nan")}, "query_injection"),
    ],
)
def test_unusable_settings_are_refused_by_name(unchecked_config, settings: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        unchecked_config(**settings)


def test_settings_cannot_change_once_checked() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().queries = 8  # type: ignore[misc]

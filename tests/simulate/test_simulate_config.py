"""Settings: defaults, recipes, and what is wrong with them."""

from pathlib import Path

import pytest

from cryoformer.errors import InputError
from cryoformer.simulate.simulate_config import SimulateConfig
from cryoformer.simulate.structures import adk_models

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
LEAST = {"models": ["a.cif", "b.cif"], "out": "out", "images": 10, "box": 32, "pixel_size_angstrom": 2.0, "snr": 0.1}


@pytest.mark.parametrize("snr", [0.1, 0.01, 0.001])
def test_paper_recipes_are_twenty_thousand_images_of_ten_discrete_states(snr: float) -> None:
    recipe = RECIPES / f"pedv_snr{snr}.yaml"
    config = SimulateConfig.from_yaml(recipe, models=["7w6m.cif", "7w73.cif"], out="pedv", seed=None)
    assert (config.images, config.box, config.states, config.motion, config.snr) == (20000, 128, 10, "discrete", snr)
    assert config.models == (Path("7w6m.cif"), Path("7w73.cif"))


def test_overrides_win_over_the_recipe() -> None:
    config = SimulateConfig.from_yaml(RECIPES / "pedv_snr0.1.yaml", models=["a.cif"], out="x", images=7, snr=None)
    assert (config.images, config.snr) == (7, 0.1)


def test_models_of_the_package_have_names() -> None:
    assert SimulateConfig(**LEAST | {"models": ["adk_closed", "adk_open"]}).models == adk_models()
    assert SimulateConfig(**LEAST).models == (Path("a.cif"), Path("b.cif"))


def test_low_pass_defaults_to_two_pixels() -> None:
    assert SimulateConfig(**LEAST).b_factor_angstrom2 == pytest.approx(4 * 4.0**2)
    assert SimulateConfig(**LEAST, resolution_angstrom=6.0).b_factor_angstrom2 == pytest.approx(4 * 6.0**2)


def test_chains_are_separated_by_commas() -> None:
    assert SimulateConfig(**LEAST, chains="A, B").chain_names == ("A", "B")
    assert SimulateConfig(**LEAST).chain_names == ()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"box": 33}, "box: .*multiple of 2.*33"),
        ({"box": 8}, "box: "),
        ({"snr": 0.0}, "snr: .*greater than 0"),
        ({"snr": float("nan")}, "snr: "),
        ({"pixel_size_angstrom": float("inf")}, "pixel_size_angstrom: "),
        ({"images": 0}, "images: "),
        ({"images": "many"}, "images: .*'many'"),
        ({"models": []}, "models: "),
        ({"motion": "wild"}, "motion: .*continuous"),
        ({"moving": " "}, "moving: "),
        ({"max_shift_pixels": -1.0}, "max_shift_pixels: "),
        ({"amplitude_contrast": 1.5}, "amplitude_contrast: "),
        ({"compositions": [{"weight": 1}]}, "compositions: .*one composition is no choice"),
        ({"compositions": [{"weight": 1}, {"weight": 0}]}, r"compositions\.1\.weight: .*greater than 0"),
        ({"compositions": [{"weight": 1}, {"share": 1}]}, r"compositions\.1\.share: no such setting"),
        ({"boxx": 3}, "boxx: no such setting"),
    ],
)
def test_wrong_settings_are_named(change: dict, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        SimulateConfig(**LEAST | change)


def test_missing_settings_are_named() -> None:
    with pytest.raises(InputError, match=r"out: is required; images: is required"):
        SimulateConfig(models=["a.cif"], box=32, pixel_size_angstrom=2.0, snr=0.1)


def test_infinite_snr_is_a_setting() -> None:
    assert SimulateConfig(**LEAST | {"snr": "inf"}).snr == float("inf")


@pytest.mark.parametrize("content", [b"- a\n- b\n", b"", b"a: [1,\n", b"\xff\xfe\x00", b"1: 2\n"])
def test_recipes_that_are_none_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"recipe\.yaml: (cannot be read|expected settings)"):
        SimulateConfig.from_yaml(path)


def test_wrong_setting_of_a_recipe_is_named_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("box: 33\n")
    with pytest.raises(InputError, match=r"recipe\.yaml: .*box: "):
        SimulateConfig.from_yaml(path, **{key: value for key, value in LEAST.items() if key != "box"})

"""Recipes of experiments: those that ship, and what is wrong with others."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from cryoformer.errors import InputError
from cryoformer.training.train_config import load_config
from cryoformer_experiments.plan import Options, fit_settings, make_plan
from cryoformer_experiments.recipe import OURS, experiment_names, load_experiment, read_experiment

VALID = {
    "title": "t",
    "reproduces": "Fig. 0",
    "methods": [{"name": "cryoformer", "method": "cryoformer"}],
    "sizes": {"tiny": {"stacks": {"one": {"images": 10}}}},
}


@pytest.mark.parametrize("name", experiment_names())
def test_every_recipe_can_be_done_at_every_size(name: str, tmp_path: Path) -> None:
    """All settings of simulations and methods exist; the tool for models is there, and models are those of the package
    or, where the user gives them, a stand-in."""
    from cryoformer.baselines.interface import checked_settings
    from cryoformer.cli.arguments import parse_settings
    from cryoformer.simulate.structures import adk_models
    from cryoformer_experiments.fits import fit_arguments, fit_of

    experiment = load_experiment(name)
    models = () if experiment.models else adk_models()
    for size in experiment.sizes:
        plan = make_plan(experiment, Options(tmp_path, size, models, cryodrgn=tmp_path / "cryodrgn"))
        assert len(plan.stacks) == len(experiment.sizes[size].stacks)
        for method in plan.methods:
            arguments = fit_arguments(plan, fit_of(plan, plan.stacks[0], method), 1.0)
            given = [text for flag, text in pairwise(arguments) if flag == "--set"]
            settings = parse_settings(given)
            if method.method == OURS:
                config = load_config(method.preset, None, settings)
                assert fit_settings(plan, method).keys() or config == load_config(method.preset)
            else:
                checked_settings(method.method, settings)


def test_the_paper_experiments_are_there() -> None:
    assert {"continuous", "spike", "ablations", "homogeneous", "two-motions", "compositional"} <= set(
        experiment_names()
    )


def test_an_unknown_experiment_lists_those_there_are() -> None:
    with pytest.raises(InputError, match="no experiment 'spikes'; expected one of"):
        load_experiment("spikes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": [{"name": "a", "method": "magic"}]}, "methods.0.method"),
        ({"methods": [{"name": "a/b", "method": "sfbp"}]}, "methods.0.name"),
        ({"methods": VALID["methods"] * 2}, "two methods have the same name"),
        ({"sizes": {"tiny": {"stacks": {"one": {}}, "methods": ["other"]}}}, "there is no other"),
        ({"sizes": {"huge": {"stacks": {"one": {}}}}}, "sizes.huge"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_recipes_say_where(change: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(VALID | change))
    with pytest.raises(InputError, match=message) as error:
        read_experiment(path)
    assert "mine.yaml" in str(error.value)


def test_a_recipe_of_the_user_has_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(VALID))
    assert load_experiment(str(path)).name == "mine"
    path.write_text("methods: [")
    with pytest.raises(InputError, match="cannot be read"):
        load_experiment(str(path))

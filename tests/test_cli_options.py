"""Options people look for, what is missing said before work, and typos."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cryoformer.cli import extras, main
from cryoformer.errors import InputError
from cryoformer.training.train_config import load_config
from test_cli import recorder, stand_in


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch):
    called = recorder("done")
    stand_in(monkeypatch, "cryoformer.run.train", train=called)
    return called


def test_options_known_from_other_programs(train, tmp_path: Path) -> None:
    given = f"-o {tmp_path / 'run'} --zdim 3 --epochs 7 --log {tmp_path / 'log'} --random 9"
    assert main(["train", "p.star", *given.split()]) == 0
    assert train.positional[0].particles == Path("p.star")
    assert train.positional[0].random == 9
    assert train.positional[1] == tmp_path / "run"
    assert train.named["overrides"] == {"subspace": {"dimension": 3}, "epochs": 7.0}
    assert train.named["log_file"] == tmp_path / "log"


def test_zdim_and_set_together(train) -> None:
    assert main(["train", "p.star", "-o", "run", "--zdim", "3", "--set", "subspace.box=24"]) == 0
    assert train.named["overrides"] == {"subspace": {"box": 24, "dimension": 3}}


def test_epochs_are_those_of_every_stage() -> None:
    assert [stage.epochs for stage in load_config(overrides={"epochs": 7}).stages] == [7, 7, 7]
    quick = load_config("quick", overrides={"epochs": 2})
    assert [stage.epochs for stage in quick.stages] == [2, 2, 2]
    assert [stage.batch for stage in quick.stages] == [64, None, None]
    with pytest.raises(InputError, match="epochs"):
        load_config(overrides={"epochs": -1})


def test_a_runs_config_is_a_recipe(tmp_path: Path) -> None:
    config = load_config("quick", overrides={"model.queries": 32, "seed": 5})
    recipe = tmp_path / "config.yaml"
    settings = config.model_dump(mode="json")
    recipe.write_text(yaml.safe_dump({"cryoformer": "0.1", "particles": "x", "settings": settings}))
    assert load_config(recipe=recipe) == config
    # Of a run of version 0.1.0, which had a setting more.
    recipe.write_text(yaml.safe_dump({"settings": settings | {"precision": "auto"}}))
    assert load_config(recipe=recipe) == config
    assert load_config(recipe=recipe, overrides={"seed": 6}).seed == 6


def test_yes_and_no_in_yaml_are_words() -> None:
    """YAML takes them for true and false, in a recipe as behind --set."""
    assert load_config(overrides={"invert": False}).invert == "no"
    assert load_config(overrides={"invert": True}).invert == "yes"
    with pytest.raises(InputError, match="invert"):
        load_config(overrides={"invert": 1})


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("analyse", "analyze"), ("vew", "view")])
def test_a_command_that_was_mistyped(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([typed, "x"]) == 2
    assert f"did you mean 'cryoformer {meant}'?" in capsys.readouterr().err


def test_help_has_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = capsys.readouterr().out
    places = [told.index(f"{group} options") for group in ("training", "particle", "image")]
    assert places == sorted(places)
    assert told.index("--zdim") < places[1] < told.index("--datadir") < places[2] < told.index("--invert")


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [(["analyze", "RUN"], "matplotlib"), (["view", "RUN"], "aiohttp"), (["demo", "-o", "x"], "gemmi")],
)
def test_what_is_missing_is_said_before_any_work(
    arguments: list[str], missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == missing else object())
    # RUN does not exist: that would be the error if anything had been looked at.
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert f"needs {missing}: pip install 'cryoformer[" in told


CORE_ALONE = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"matplotlib", "jinja2", "skimage", "gemmi", "cryosparc", "aiohttp", "PIL", "umap"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from cryoformer.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_train_and_select_work_with_the_core_alone(particle_file: Path, tmp_path: Path) -> None:
    small = {"subspace.box": 16, "subspace.iterations": 2, "model.queries": 8, "model.channels": 8, "latent_states": 8,
             "stages": "[{box: 16, epochs: 1}, {box: 24, epochs: 1}]", "invert": "no", "parts": 0}  # fmt: skip
    out = tmp_path / "run"
    settings = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-c", CORE_ALONE]
    limit = ["--max-minutes", "0.001"]
    done = subprocess.run(
        [*command, "train", str(particle_file), "-o", str(out), *limit, *settings], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (out / "latents.npz").is_file()
    picked = [*command, "select", str(out), "--random", "5", "-o", str(tmp_path / "five.star")]
    assert subprocess.run(picked, check=True, capture_output=True, text=True).stdout.endswith("(5 particles)\n")

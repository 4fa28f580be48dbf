"""Every recipe loads with the loader that its command uses, and says what it claims."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml

from cryoformer.assess.ground_truth import load_truth
from cryoformer.files import write_mrc_volume
from cryoformer.simulate.simulate_config import SimulateConfig
from cryoformer.simulate.specimen import present_atoms
from cryoformer.simulate.stack import simulate
from cryoformer.simulate.structures import read_models
from cryoformer.training.train_config import load_config

RECIPES = sorted((Path(__file__).resolve().parents[1] / "recipes").glob("*.yaml"))
SIMULATIONS = [path for path in RECIPES if "images" in yaml.safe_load(path.read_text())]


def named(name: str) -> Path:
    (found,) = (path for path in RECIPES if path.stem == name)
    return found


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_load_and_say_how_to_run_them(path: Path) -> None:
    text = path.read_text()
    command = "simulate" if path in SIMULATIONS else "train"
    lines = [line for line in text.splitlines() if line.startswith(f"#   cryoformer {command} ")]
    assert lines
    assert f"--recipe recipes/{path.name}" in text
    if command == "simulate":
        models = None if "models" in yaml.safe_load(text) else ["a.cif"]
        assert SimulateConfig.from_yaml(path, out="x", models=models).images > 0
    else:
        assert load_config("default", path).stages[-1].box == 128


def test_there_are_both_kinds() -> None:
    assert len(SIMULATIONS) >= 6
    assert len(RECIPES) - len(SIMULATIONS) >= 7


@pytest.mark.parametrize(("name", "states"), [("two_motions_adk", 25), ("compositional_adk", 3)])
def test_recipes_of_the_package_models_run(tmp_path: Path, name: str, states: int) -> None:
    small = {"images": 4, "box": 32, "pixel_size_angstrom": 4.4}
    out = simulate(SimulateConfig.from_yaml(named(name), out=tmp_path / "set", **small))
    assert len(list((out / "gt").iterdir())) == states


def test_the_spike_recipe_names_residues_of_its_model(shared_data: Path) -> None:
    config = SimulateConfig.from_yaml(named("compositional_spike"), out="x", models=["6vxx.pdb"])
    (model,) = read_models([shared_data / "structures" / "6vxx.pdb"])
    whole, without_binding, without_terminal = present_atoms(model, config.compositions)
    assert whole.all()
    lost = [1 - float(atoms.mean()) for atoms in (without_binding, without_terminal)]
    assert 0.04 < lost[0] < 0.09
    assert 0.06 < lost[1] < 0.12


def test_the_script_for_benchmarks_makes_a_truth_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (RECIPES[0].parents[1] / "docs" / "recipes.md").read_text()
    script = text.split("```python\n")[1].split("```")[0]
    benchmark = tmp_path / "IgG-1D"
    for number in range(3):
        write_mrc_volume(benchmark / "vols/128_org" / f"{number:03d}.mrc", np.full((16,) * 3, number, np.float32), 3.0)
    write_mrc_volume(benchmark / "init_mask" / "mask.mrc", np.ones((16,) * 3, dtype=np.float32), 3.0)
    (benchmark / "gt_latents.pkl").write_bytes(pickle.dumps(np.repeat(np.arange(3), 4)))
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "recipes.md", "exec"), {})
    truth = load_truth(tmp_path / "truth", 16, 3.0, 12)
    np.testing.assert_array_equal(truth.state_of_image, np.repeat(np.arange(3), 4))
    assert [volume.max() for volume in truth.states()] == [0.0, 1.0, 2.0]
    assert truth.given_mask() is not None

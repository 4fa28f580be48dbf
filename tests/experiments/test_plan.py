"""What will be done, known before anything is done."""

from pathlib import Path

import pytest

from cryoformer.errors import InputError
from cryoformer_experiments.circumstances import command_of
from cryoformer_experiments.fits import fit_arguments, fit_of
from cryoformer_experiments.plan import Options, flat, make_plan, sets_the_budget
from cryoformer_experiments.recipe import Experiment, load_experiment
from cryoformer_experiments.workplace import open_workplace


def experiment(**changes) -> Experiment:
    values = {
        "name": "made_up",
        "title": "Made up",
        "reproduces": "Fig. 0",
        "models": ["adk_1ake_A.cif"],
        "simulate": {"snr": 0.5, "states": 3},
        "methods": [
            {"name": "ours", "method": "cryoformer", "preset": "quick", "settings": {"model": {"queries": 8}}},
            {"name": "cryodrgn", "method": "cryodrgn"},
            {"name": "homogeneous", "method": "homogeneous"},
        ],
        "sizes": {
            "tiny": {
                "stacks": {
                    "a": {"images": 10, "box": 32, "pixel_size_angstrom": 4.0},
                    "b": {"images": 20, "snr": 0.1, "box": 32, "pixel_size_angstrom": 4.0},
                },
                "settings": {"cryoformer": {"latent_states": 16, "model": {"queries": 4, "channels": 4}}},
            }
        },
    }
    return Experiment.model_validate(values | changes)


def test_stacks_differ_as_the_recipe_says(tmp_path: Path) -> None:
    plan = make_plan(experiment(), Options(tmp_path, "tiny", seed=5))
    first, second = plan.stacks
    assert first.particles == tmp_path / "a" / "particles" / "particles.star"
    assert first.config is not None
    assert second.config is not None
    assert (first.config.images, first.config.snr, first.config.states, first.config.seed) == (10, 0.5, 3, 5)
    assert (second.config.images, second.config.snr) == (20, 0.1)
    assert [path.name for path in first.config.models] == ["adk_1ake_A.cif"]
    assert not any(tmp_path.iterdir())


def test_some_of_the_stacks(tmp_path: Path) -> None:
    plan = make_plan(experiment(), Options(tmp_path, "tiny", stacks=("b",)))
    assert [stack.name for stack in plan.stacks] == ["b"]
    assert "--stacks b" in command_of(plan)
    with pytest.raises(InputError, match="no stack 'c'; it has a, b"):
        make_plan(experiment(), Options(tmp_path, "tiny", stacks=("c",)))


def test_a_folder_takes_further_stacks_but_no_changed_ones(tmp_path: Path) -> None:
    open_workplace(make_plan(experiment(), Options(tmp_path / "out", "tiny", stacks=("b",))))
    open_workplace(make_plan(experiment(), Options(tmp_path / "out", "tiny", stacks=("a",))))
    open_workplace(make_plan(experiment(), Options(tmp_path / "out", "tiny")))
    changed = experiment(simulate={"snr": 0.4, "states": 3})
    open_workplace(make_plan(changed, Options(tmp_path / "out", "tiny", stacks=("b",))))  # b has its own SNR
    with pytest.raises(InputError, match="another stacks"):
        open_workplace(make_plan(changed, Options(tmp_path / "out", "tiny", stacks=("a",))))


def test_cryodrgn_is_left_out_without_its_command_and_said_so(tmp_path: Path) -> None:
    plan = make_plan(experiment(), Options(tmp_path, "tiny"))
    assert [method.name for method in plan.methods] == ["ours", "homogeneous"]
    assert plan.left_out == {"cryodrgn": "no installation was given (--cryodrgn)"}
    with pytest.raises(InputError, match="--cryodrgn"):
        make_plan(experiment(), Options(tmp_path, "tiny", methods=("cryodrgn",)))
    plan = make_plan(experiment(), Options(tmp_path, "tiny", cryodrgn=Path("/opt/drgn/cryodrgn")))
    arguments = fit_arguments(plan, fit_of(plan, plan.stacks[0], plan.methods[1]), 2.0)
    assert arguments[-4:] == ["--set", "executable=/opt/drgn/cryodrgn", "--max-minutes", "2.00"]


def test_arguments_of_a_fit(tmp_path: Path) -> None:
    """A variant's own settings win over those of the size; only methods with epochs have a time limit."""
    plan = make_plan(experiment(), Options(tmp_path, "tiny", seed=3))
    ours, homogeneous = plan.methods
    stack = plan.stacks[0]
    assert fit_arguments(plan, fit_of(plan, stack, ours), 1.25) == [
        "train",
        str(stack.particles),
        "--out",
        str(tmp_path / "a" / "ours"),
        *("--seed", "3", "--preset", "quick"),
        *("--set", "latent_states=16", "--set", "model.queries=8", "--set", "model.channels=4"),
        *("--max-minutes", "1.25"),
    ]
    assert fit_arguments(plan, fit_of(plan, stack, homogeneous, half=2), 1.25) == [
        *("baseline", "homogeneous", str(stack.particles)),
        *("--out", str(tmp_path / "a" / "homogeneous_half2"), "--seed", "3", "--half", "2"),
    ]


def test_the_first_method_sets_the_budget_unless_it_is_fixed(tmp_path: Path) -> None:
    plan = make_plan(experiment(), Options(tmp_path, "tiny"))
    assert sets_the_budget(plan) == plan.methods[0]
    plan = make_plan(experiment(), Options(tmp_path, "tiny", minutes=2.0))
    assert sets_the_budget(plan) is None
    assert plan.minutes == 2.0


def test_a_given_stack_takes_the_place_of_all_simulated_ones(tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "truth.npz").touch()
    (truth / "particles.star").touch()
    options = Options(tmp_path / "out", "tiny", particles=truth / "particles.star", truth=truth)
    (stack,) = make_plan(load_experiment("spike"), options).stacks
    assert (stack.name, stack.config) == ("truth", None)
    with pytest.raises(InputError, match="both --particles and --truth"):
        make_plan(experiment(), Options(tmp_path, "tiny", truth=truth))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "full"}, "size 'full': expected one of tiny"),
        ({"methods": ("magic",)}, "no method 'magic'; it has ours, cryodrgn, homogeneous"),
        ({"models": (Path("no.pdb"),)}, "no.pdb: no such file"),
        ({"minutes": 0.0}, "--minutes 0"),
        ({"threads": 0}, "--threads 0"),
        ({"particles": Path("no.star"), "truth": Path("no")}, "no.star: no such file"),
    ],
)
def test_what_cannot_be_done_is_said_first(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(experiment(), Options(tmp_path, **{"size": "tiny"} | options))


def test_models_that_the_user_must_bring_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="spike needs two models of a spike protein"):
        make_plan(load_experiment("spike"), Options(tmp_path))


def test_nested_settings_become_dotted_names() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": [2]}, "e.f": 3}) == {"a.b.c": 1, "a.d": [2], "e.f": 3}

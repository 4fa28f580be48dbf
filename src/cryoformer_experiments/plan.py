"""From a recipe and what the user asked for to the stacks and fits that will be made, before anything is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from cryoformer.errors import InputError
from cryoformer.simulate.simulate_config import SimulateConfig
from cryoformer_experiments.recipe import OURS, SIZES, Experiment, Method, Size


@dataclass(frozen=True)
class Options:
    """What the user may choose.

    Attributes:
        out: folder of the experiment; a second call with it goes on where the first one stopped.
        size: "tiny", "everyday" or "full".
        models: atomic models instead of the recipe's.
        methods: names of the recipe's methods to fit; empty for all.
        stacks: names of the size's stacks; empty for all.
        minutes: time budget of methods that train in epochs, instead of the recipe's.
        seed: of the simulation and of every fit.
        threads: of every fit; None leaves it to the environment.
        cryodrgn: cryoDRGN's command; without it cryodrgn is left out.
        particles, truth: a stack with its ground truth, instead of those that would be simulated.
    """

    out: Path
    size: str = "everyday"
    models: Sequence[Path] = ()
    methods: Sequence[str] = ()
    stacks: Sequence[str] = ()
    minutes: float | None = None
    seed: int = 0
    threads: int | None = None
    cryodrgn: Path | None = None
    particles: Path | None = None
    truth: Path | None = None


@dataclass(frozen=True)
class Stack:
    """Particles with their truth: simulated by these settings, or given (no settings)."""

    name: str
    particles: Path
    truth: Path
    config: SimulateConfig | None


@dataclass(frozen=True)
class Plan:
    """All that an experiment will do."""

    experiment: Experiment
    size: Size
    options: Options
    stacks: tuple[Stack, ...]
    methods: tuple[Method, ...]
    left_out: dict[str, str]
    """Methods that are not fitted, and why."""

    def label(self, name: str) -> str:
        """What a method is called in tables and plots."""
        return next((m.label or m.name for m in self.experiment.methods if m.name == name), name)

    @property
    def minutes(self) -> float | None:
        """Budget that is fixed beforehand; None: the time that the first method takes."""
        return self.options.minutes or self.size.minutes


def make_plan(experiment: Experiment, options: Options) -> Plan:
    """Check all that can be checked before hours of work.

    Raises:
        InputError: an unknown size or method, missing models, settings that cannot be used, a missing program.
    """
    if options.size not in experiment.sizes:
        raise InputError(
            f"size {options.size!r}: expected one of {', '.join(name for name in SIZES if name in experiment.sizes)}"
        )
    if options.minutes is not None and options.minutes <= 0:
        raise InputError(f"--minutes {options.minutes:g}: expected more than 0")
    if options.threads is not None and options.threads < 1:
        raise InputError(f"--threads {options.threads}: expected 1 or more")
    size = experiment.sizes[options.size]  # type: ignore[index]
    methods, left_out = _methods(experiment, size, options)
    return Plan(experiment, size, options, _stacks(experiment, size, options), methods, left_out)


def fit_settings(plan: Plan, method: Method) -> dict[str, Any]:
    """Settings of a method at the plan's size, as a flat dictionary of dotted names."""
    settings = flat(plan.size.settings.get(method.method, {})) | flat(method.settings)
    if method.method == "cryodrgn":
        settings["executable"] = str(plan.options.cryodrgn)
    return settings


def flat(settings: dict[str, Any]) -> dict[str, Any]:
    """``{"model": {"queries": 32}}`` as ``{"model.queries": 32}``."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": x for inner, x in flat(value).items()}
        else:
            found[name] = value
    return found


def _methods(experiment: Experiment, size: Size, options: Options) -> tuple[tuple[Method, ...], dict[str, str]]:
    known = {method.name: method for method in experiment.methods}
    unknown = [name for name in options.methods if name not in known]
    if unknown:
        raise InputError(f"{experiment.name} has no method {unknown[0]!r}; it has {', '.join(known)}")
    if "cryodrgn" in options.methods and options.cryodrgn is None:
        raise InputError("cryodrgn is not part of this package; give the command of your installation by --cryodrgn")
    names = options.methods or size.methods or tuple(known)
    # In the recipe's order: the first one sets the time budget.
    chosen = [method for method in experiment.methods if method.name in names]
    left_out = {
        method.name: "no installation was given (--cryodrgn)"
        for method in chosen
        if method.method == "cryodrgn" and options.cryodrgn is None
    }
    kept = tuple(method for method in chosen if method.name not in left_out)
    if not kept:
        raise InputError(f"{experiment.name}: no method is left to fit; give --cryodrgn or other --methods")
    return kept, left_out


def _stacks(experiment: Experiment, size: Size, options: Options) -> tuple[Stack, ...]:
    if (options.particles is None) != (options.truth is None):
        raise InputError("a given stack needs both --particles and --truth")
    if options.particles is not None and options.truth is not None:
        if options.models:
            raise InputError("give either --models to simulate from, or --particles and --truth")
        if options.stacks:
            raise InputError("--stacks chooses among simulated stacks; leave it out where --particles gives one")
        for path in (options.particles, options.truth / "truth.npz"):
            if not path.is_file():
                raise InputError(f"{path}: no such file")
        return (Stack(options.truth.resolve().name, options.particles, options.truth, None),)
    unknown = [name for name in options.stacks if name not in size.stacks]
    if unknown:
        raise InputError(f"{experiment.name} has no stack {unknown[0]!r}; it has {', '.join(size.stacks)}")
    models = _models(experiment, options)
    stacks = []
    for name, settings in size.stacks.items():
        if options.stacks and name not in options.stacks:
            continue
        folder = options.out / name / "particles"
        values = {"models": models, "out": folder, "seed": options.seed} | experiment.simulate | settings
        stacks.append(Stack(name, folder / "particles.star", folder, SimulateConfig(**values)))
    return tuple(stacks)


def _models(experiment: Experiment, options: Options) -> tuple[Path, ...]:
    from cryoformer.simulate.structures import require_gemmi

    require_gemmi()
    data = Path(str(resources.files("cryoformer") / "data"))
    models = tuple(options.models) or tuple(data / name for name in experiment.models)
    if not models:
        raise InputError(
            f"{experiment.name} needs {experiment.models_wanted}: give the files by --models, or a stack by "
            "--particles and --truth"
        )
    for model in models:
        if not model.is_file():
            raise InputError(f"{model}: no such file; expected an atomic model in PDB or mmCIF format")
    return models


def sets_the_budget(plan: Plan) -> Method | None:
    """The method whose time is the budget of the others, if the budget is not fixed beforehand."""
    first = plan.experiment.methods[0]
    return first if plan.minutes is None and first.method == OURS else None

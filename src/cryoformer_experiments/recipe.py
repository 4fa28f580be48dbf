"""What an experiment is: stacks to simulate, methods to fit on each, and how their results are scored.

A recipe is a YAML file of the folder ``recipes/``. It describes the experiment once and its sizes (``tiny`` for tests,
``everyday``, ``full``) as differences; a variant of a method is one entry of ``methods``.
"""

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cryoformer.errors import InputError

SIZES = ("tiny", "everyday", "full")
OURS = "cryoformer"
MethodKind = Literal["cryoformer", "homogeneous", "subspace", "sfbp", "resmfn", "cryodrgn"]
EPOCH_METHODS: tuple[MethodKind, ...] = ("cryoformer", "sfbp", "resmfn", "cryodrgn")
"""Methods that train in epochs: these share a time budget; the others take the time they take."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(_Entry):
    """A method, or a variant of one, as it is fitted on every stack of an experiment."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Also the name of its folder")
    label: str | None = Field(default=None, description="In tables and plots; the name if there is none")
    method: MethodKind
    preset: Literal["quick", "default", "paper"] = "default"
    settings: dict[str, Any] = Field(default={}, description="As --set gives them to train or baseline")


class Size(_Entry):
    """One size of an experiment."""

    stacks: dict[str, dict[str, Any]] = Field(min_length=1, description="Settings of each stack's simulation, by name")
    minutes: float | None = Field(
        default=None, gt=0, description="Budget of methods that train in epochs; none: what the first method took"
    )
    images: int = Field(default=100, ge=1, description="Particles that the scores per image are averaged over")
    settings: dict[MethodKind, dict[str, Any]] = Field(
        default={}, description="Settings of every method of a kind at this size; a variant's own win"
    )
    methods: tuple[str, ...] | None = Field(default=None, description="Methods fitted at this size; none: all")


class Experiment(_Entry):
    """A recipe."""

    name: str
    title: str
    reproduces: str = Field(description="What of the paper")
    departs: str = Field(default="", description="What differs from the paper's own experiment, and why")
    kind: Literal["comparison", "halves"] = Field(
        default="comparison", description="Methods against the truth, or against themselves on two independent halves"
    )
    models: tuple[str, ...] = Field(default=(), description="Atomic models of the package; none: the user's")
    models_wanted: str = Field(default="atomic models", description="What the user's models are to be")
    simulate: dict[str, Any] = Field(default={}, description="Settings of the simulation, for all stacks")
    sizes: dict[Literal["tiny", "everyday", "full"], Size]
    methods: tuple[Method, ...] = Field(min_length=1, description="The first is the one that others are compared with")

    @model_validator(mode="after")
    def _names(self) -> "Experiment":
        names = [method.name for method in self.methods]
        if len(set(names)) < len(names):
            raise ValueError("two methods have the same name")
        for size in self.sizes.values():
            unknown = [name for name in size.methods or () if name not in names]
            if unknown:
                raise ValueError(f"methods of a size: there is no {unknown[0]}")
        return self


def experiment_names() -> list[str]:
    """Names of the experiments that come with the package."""
    return sorted(path.stem for path in recipe_folder().glob("*.yaml"))


def recipe_folder() -> Path:
    """Where the recipes are."""
    return Path(str(resources.files("cryoformer_experiments") / "recipes"))


def load_experiment(name: str) -> Experiment:
    """An experiment of the package, or of a recipe file (NAME.yaml).

    Raises:
        InputError: there is none of this name.
    """
    if name.endswith((".yaml", ".yml")):
        return read_experiment(Path(name))
    if name not in experiment_names():
        raise InputError(f"there is no experiment {name!r}; expected one of {', '.join(experiment_names())}")
    return read_experiment(recipe_folder() / f"{name}.yaml")


def read_experiment(path: Path) -> Experiment:
    """An experiment from a recipe file; its name is that of the file.

    Raises:
        InputError: the file is no recipe of an experiment.
    """
    try:
        values = yaml.safe_load(path.read_text())
        return Experiment.model_validate({"name": path.stem, **values})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as the recipe of an experiment: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {place or 'recipe'}: {first['msg']} (got {first['input']!r})") from None

"""Settings of a simulation, from a recipe, the command line or Python; checked when made."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cryoformer.errors import InputError
from cryoformer.simulate.structures import find_model

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Composition(BaseModel):
    """One of the compositions that particles come in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: Positive
    """Its share of the particles; shares need not add up to 1."""
    without: str | None = None
    """Residues that are missing, for example B:331-528,A:27-305; None: the whole molecule."""


class SimulateConfig(BaseModel):
    """What to simulate. Lengths are in Angstrom unless the name says pixels.

    Raises:
        InputError: a setting is unknown, missing or out of its range; the message names every one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[Path, ...] = Field(min_length=1)
    """Atomic models of one molecule (PDB or mmCIF), the keyframes of its motion; one alone stands still.

    ``adk_closed`` and ``adk_open`` stand for the models that come with the package."""
    out: Path
    """Folder to write; must not exist or be empty."""
    images: int = Field(gt=0)
    box: int = Field(ge=16, multiple_of=2)
    """Image side in pixels, even."""
    pixel_size_angstrom: Positive
    snr: float = Field(gt=0)
    """Variance of the clean images after CTF over the variance of the noise, over the whole stack; inf: no noise."""
    seed: int = Field(default=0, ge=0)

    states: int = Field(default=10, ge=1, le=1000)
    """True states written to gt/ and models/, at t = (m + 0.5) / states, for every coordinate and composition."""
    motion: Literal["continuous", "discrete"] = "continuous"
    """Every image at its own t, or every image in one of the states."""
    t_beta: tuple[Positive, Positive] = (1.0, 1.0)
    """Parameters of the Beta distribution that t is drawn from; (1, 1) is uniform, (0.5, 0.5) favours the ends."""
    moving: str | None = None
    """Moving domains, for example B:331-528,A:10-40+60-80 (comma: next domain, plus: next range); found if None."""
    independent_domains: bool = False
    """Every moving domain at a t of its own instead of all at the same: as many coordinates as domains."""
    compositions: tuple[Composition, ...] = ()
    """Particles lack parts of the molecule: each is of one composition, drawn by the weights. Empty: all are whole."""
    tolerance_angstrom: Positive | None = None
    """Deviation within which residues count as moving together; None: 3, then 2, then 1."""
    chains: str | None = None
    """Chains of the first model to use, separated by commas; None: all."""
    hydrogens: bool = False

    resolution_angstrom: Positive | None = None
    """Low-pass of the density: exp(-(k resolution)^2), 1/e at 1/resolution; None: two pixels."""
    max_shift_pixels: float = Field(default=3.0, ge=0, allow_inf_nan=False)
    """Origins are uniform within plus and minus this on both axes."""
    voltage_kv: Positive = 300.0
    spherical_aberration_mm: float = Field(default=2.7, ge=0, allow_inf_nan=False)
    amplitude_contrast: float = Field(default=0.1, ge=0, le=1)
    defocus_mean_angstrom: Positive = 20000.0
    defocus_spread_angstrom: float = Field(default=4000.0, ge=0, allow_inf_nan=False)
    defocus_file: Path | None = None
    """Defoci to draw from instead: a CSV (.csv, .csv.gz) or RELION STAR file."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(f"simulation settings: {_reasons(error)}") from error

    @field_validator("models")
    @classmethod
    def _with_package_models(cls, models: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(find_model(model) for model in models)

    @field_validator("moving", "chains")
    @classmethod
    def _not_blank(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("is empty; leave it out instead")
        return text

    @field_validator("compositions")
    @classmethod
    def _several(cls, compositions: tuple[Composition, ...]) -> tuple[Composition, ...]:
        if len(compositions) == 1:
            raise ValueError("one composition is no choice; give two or more, or leave them out")
        return compositions

    @property
    def chain_names(self) -> tuple[str, ...]:
        """The chains to use; empty for all."""
        return tuple(name.strip() for name in self.chains.split(",")) if self.chains else ()

    @property
    def b_factor_angstrom2(self) -> float:
        """The low-pass as a B-factor: exp(-B k^2 / 4) = exp(-(k resolution)^2)."""
        return 4.0 * (self.resolution_angstrom or 2.0 * self.pixel_size_angstrom) ** 2

    @classmethod
    def from_yaml(cls, path: Path | str, **overrides: Any) -> "SimulateConfig":
        """Settings from a recipe, a YAML mapping; overrides that are not None win.

        Raises:
            InputError: the file is missing, is no YAML mapping, or holds settings that cannot be used.
        """
        path = Path(path)
        try:
            values = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: cannot be read as a recipe ({reason}); expected YAML") from error
        if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
            raise InputError(f"{path}: expected settings as `name: value` lines, found {type(values).__name__}")
        try:
            return cls(**{**values, **{key: value for key, value in overrides.items() if value is not None}})
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def _reasons(error: ValidationError) -> str:
    reasons = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"]) or "settings"
        given = "" if item["type"] in ("missing", "extra_forbidden") else f" (given: {item['input']!r})"
        message = {"extra_forbidden": "no such setting", "missing": "is required"}.get(item["type"], item["msg"])
        reasons.append(f"{name}: {message}{given}")
    return "; ".join(reasons)

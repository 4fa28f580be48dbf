"""Settings of a reconstruction: presets, recipe files and overrides, checked in one place."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from cryoformer.errors import InputError
from cryoformer.images.settings import ImageSettings
from cryoformer.linear.ppca_settings import PPCASettings
from cryoformer.model.model_config import ModelConfig
from cryoformer.settings import Settings

Preset = Literal["quick", "default", "paper"]


class Stage(Settings):
    """One resolution of the training, :mod:`cryoformer.training.trainer`."""

    box: int = Field(ge=8, description="Box the images are Fourier-cropped to (at most their own)")
    epochs: float = Field(gt=0, description="Passes over the images; fewer where held-out images lose by more")
    batch: int | None = Field(default=None, ge=1, description="Images a step; None: 32 of few images, 128 of many")


class TrainConfig(ImageSettings):
    """Everything that decides a run. The defaults are the preset ``default``."""

    devices: int = Field(default=1, ge=1, description="Processes on this machine, which share the images")
    precision: Literal["float32", "tf32", "bf16"] = Field(
        default="float32",
        description="Products of the network: tf32 rounds them on a GPU, bf16 works in 16 bits there",
    )
    mask: Path | None = Field(default=None, description="Map of the solvent mask, instead of the one that is found")
    focus: Path | None = Field(
        default=None, description="Map of where motion is looked for; elsewhere the density does not vary"
    )
    ignore: Path | None = Field(
        default=None, description="Map of where no motion is looked for (a micelle); its density stays in the model"
    )
    subspace: PPCASettings = PPCASettings()
    model: ModelConfig = ModelConfig()
    latents: Literal["subspace", "free"] = Field(
        default="subspace",
        description="Latents of the linear subspace, or random ones that are learnt with the network and need none",
    )
    decode: Literal["flexible", "occupied"] = Field(
        default="flexible",
        description="Points that the transformer decodes: where density varies, or all that hold density (as always "
        "without a subspace)",
    )
    base: bool = Field(
        default=True, description="Add the transformer's density to the back-projection of what it leaves"
    )
    stages: tuple[Stage, ...] = (
        Stage(box=32, epochs=4, batch=64),
        Stage(box=64, epochs=2),
        Stage(box=128, epochs=2),
    )
    full_box: bool = Field(
        default=True, description="End at the images' own box: the last stage's box is replaced by it"
    )
    images_per_state: int | None = Field(
        default=None, ge=1, description="Images that share a decoded density; None: as many as their latents allow"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Of the network, at its highest")
    table_learning_rate: float = Field(default=1e-2, gt=0, description="Of the hash tables")
    latent_learning_rate: float = Field(default=3e-2, gt=0, description="Of free latents")
    refine_latents: bool = Field(default=True, description="Sharpen the latents by the decoder's own likelihood")
    latent_states: int = Field(default=256, ge=2, description="States that the sharpened latents are expectations over")
    parts: int = Field(default=3, ge=0, description="Parts that move as one, at most; 0: none are looked for")
    part_poses: Literal["chosen", "path", "own"] = Field(
        default="chosen",
        description="Parts stand where latents put them (path), or as every particle has them (own); chosen: own where "
        "held-out images gain",
    )
    checkpoint_seconds: float = Field(default=60.0, gt=0, description="Time between checkpoints")

    @property
    def fits_ppca(self) -> bool:
        """Whether stage B is needed: for its latents, or to find the flexible points."""
        return self.latents == "subspace" and (self.model.encoder != "mlp" or self.decode == "flexible")

    @property
    def components(self) -> int:
        """Components of the linear model, at most."""
        return self.subspace.dimension if self.fits_ppca else 0

    @field_validator("model", mode="before")
    @classmethod
    def _model(cls, value: Any) -> Any:
        try:
            return ModelConfig(**value) if isinstance(value, dict) else value
        except TypeError as error:
            raise ValueError(str(error)) from None


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "quick": {
        "stages": [{"box": 32, "epochs": 3, "batch": 64}, {"box": 64, "epochs": 1}, {"box": 128, "epochs": 1}],
        "subspace": {"iterations": 12},
    },
    # The paper's settings as far as it gives them: pose-blind image encoder, all occupied points, no base density, no
    # short cuts for F_D, one resolution, 100 epochs. Batch and learning rates, which it does not give, are ours.
    # `model.encoder: latent` on top of it trains the same network from the subspace's latents.
    "paper": {
        "base": False,
        "decode": "occupied",
        "refine_latents": False,
        "parts": 0,
        "stages": [{"box": 128, "epochs": 100}],
        "model": {"encoder": "mlp", "query_injection": 0.0, "cross_attention_values": "queries",
                  "spatial_residual": False, "encoder_residual": False},
    },
}  # fmt: skip


def load_config(
    preset: str = "default", recipe: Path | None = None, overrides: dict[str, Any] | None = None
) -> TrainConfig:
    """Preset, then recipe file, then overrides (dotted keys reach into groups, ``model.queries``).

    A recipe holds settings, or is the ``config.yaml`` of a run, whose settings are taken. ``epochs`` among the settings
    stands for those of every stage.

    Raises:
        InputError: an unreadable recipe, or a setting that does not exist or cannot have this value.
    """
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r}: expected one of {', '.join(PRESETS)}")
    settings: dict[str, Any] = _merge({}, PRESETS[preset])
    if recipe is not None:
        try:
            loaded = yaml.safe_load(recipe.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{recipe}: cannot be read as YAML: {error}") from None
        if not isinstance(loaded, dict):
            raise InputError(f"{recipe}: expected settings as 'name: value' lines")
        settings = _merge(settings, loaded["settings"] if isinstance(loaded.get("settings"), dict) else loaded)
    for key, value in (overrides or {}).items():
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        settings = _merge(settings, nested)
    if (epochs := settings.pop("epochs", None)) is not None:
        stages = settings.get("stages", [stage.model_dump() for stage in TrainConfig().stages])
        settings["stages"] = [{**stage, "epochs": epochs} for stage in stages]
    # Runs of version 0.1.0 hold it; it never did anything.
    settings.pop("precision", None)
    try:
        config = TrainConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"setting {place}: {first['msg']} (got {first['input']!r})") from None
    _check_together(config)
    return config


def _check_together(config: TrainConfig) -> None:
    if config.latents == "free" and config.model.encoder == "mlp":
        raise InputError(
            "setting latents: 'free' with model.encoder 'mlp', which reads images, not latents; leave one of them out"
        )
    if config.focus is not None or config.ignore is not None:
        name = "focus" if config.focus is not None else "ignore"
        if not config.base:
            raise InputError(f"setting {name}: needs a still density (base: true), which this preset or recipe has not")
        if config.model.domain == "fourier":
            raise InputError(f"setting {name}: not with model.domain 'fourier', which knows no places; leave one out")
    alone = config.latents == "free" or config.model.encoder == "mlp" or config.model.domain == "fourier"
    if alone and (config.images_per_state or 1) > 1:
        raise InputError(
            "setting images_per_state: only images with known latents share a decoded density, and only in real space; "
            "expected 1, or nothing"
        )
    if config.model.orientation == "encoder" and (config.base or config.decode != "occupied" or config.devices > 1):
        raise InputError(
            "setting model.orientation: 'encoder' needs base: false, decode: occupied and one process, since what is "
            "made at the poses given is of no use to it; take --preset paper"
        )
    if config.latents == "free" and config.devices > 1:
        raise InputError("setting devices: free latents (latents: free) are learnt in one process; expected 1")


def resolve_stages(config: TrainConfig, box: int) -> list[Stage]:
    """The stages for images of this box: none larger than it, the last at it (with ``full_box``), none twice."""
    stages = [stage.model_copy(update={"box": min(stage.box, box)}) for stage in config.stages]
    if config.full_box:
        stages[-1] = stages[-1].model_copy(update={"box": box})
    return [
        stage
        for stage, after in zip(stages, [*stages[1:], None], strict=True)
        if after is None or stage.box < after.box
    ]


def _merge(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in other.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged

"""What the commands share: the application, types of their arguments, and arguments read from text."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from cryoformer.errors import InputError

if TYPE_CHECKING:
    import numpy as np

RunPath = Positional[Annotated[Path, arg(metavar="RUN")]]
Folder = Annotated[Path, arg(metavar="DIR")]
OptionalFile = Annotated[Path | None, arg(metavar="FILE")]
OptionalFolder = Annotated[Path | None, arg(metavar="DIR")]
Settings = Annotated[UseAppendAction[tuple[str, ...]], arg(name="set", metavar="KEY=VALUE")]

app = tyro.extras.SubcommandApp()


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """``("model.queries=32", "seed=1")`` as ``{"model": {"queries": 32}, "seed": 1}``; values are read as YAML."""
    import yaml

    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        *groups, name = key.strip().split(".")
        if not equals or not name or not all(groups):
            raise InputError(f"--set {setting}: expected KEY=VALUE, such as model.queries=32")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {setting}: '{text}' is no YAML value ({' '.join(str(error).split())})") from error
        if isinstance(value, str):
            # YAML takes 1e-3 for a word.
            with contextlib.suppress(ValueError):
                value = float(value)
        target = parsed
        for group in groups:
            target = target.setdefault(group, {})
            if not isinstance(target, dict):
                raise InputError(f"--set {setting}: {group} is set to a value and to a group of settings")
        target[name] = value
    return parsed


def parse_particles(text: str, count: int) -> "np.ndarray":
    """``3,17,42`` as indices of ``count`` particles."""
    import numpy as np

    try:
        indices = np.array([int(part) for part in text.split(",")], dtype=np.int64)
    except ValueError as error:
        raise InputError(f"--particles {text}: expected whole numbers with commas between, such as 3,17,42") from error
    outside = indices[(indices < 0) | (indices >= count)]
    if len(outside):
        raise InputError(f"--particles: there is no particle {outside[0]}; the run has {count}, counted from 0")
    return indices


def load_latents(path: Path, dimensions: int, option: str = "--latents") -> "np.ndarray":
    """Latent points [m, k] of a .npy file; a single point may be one row without a table around it."""
    import numpy as np

    try:
        points = np.atleast_2d(np.load(path, allow_pickle=False)).astype(np.float32)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{option} {path}: cannot be read as a table of numbers in .npy form ({error})") from error
    if points.ndim != 2 or points.shape[1] != dimensions:
        raise InputError(
            f"{option} {path}: shape {points.shape}; expected one point a row, with the run's {dimensions} coordinates"
        )
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise InputError(f"{option} {path}: row {row + 1} holds NaN or infinite values; remove it")
    return points

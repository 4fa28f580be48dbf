"""What the commands share: the application, types of their arguments, and arguments read from text."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from cryoformer.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from cryoformer.formats.particle_input import ParticleInput
    from cryoformer.images.settings import ImageSettings

RunPath = Positional[Annotated[Path, arg(metavar="RUN")]]
Folder = Annotated[Path, arg(metavar="DIR")]
OutFolder = Annotated[Path, arg(metavar="DIR", aliases=("-o",))]
# The hint "(default: None)" tells nobody anything.
OptionalFile = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]
OptionalFolder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]
Settings = Annotated[UseAppendAction[tuple[str, ...]], arg(name="set", metavar="KEY=VALUE")]


def optional(metavar: str) -> Any:
    """An option without a default of its own."""
    return arg(metavar=metavar, help_behavior_hint="")


@dataclass(frozen=True)
class ImageOptions:
    """How images are read, and where the work is done. What is not given is as the recipe or the default says.

    Attributes:
        invert: Invert the contrast: yes for dark particles, no for white ones, auto to detect it (default).
        normalise: Bring the background of every image to mean 0 and standard deviation 1 (default: yes).
        ctf_applied: What was done to the images: nothing, phases flipped, multiplied by the CTF, or as the file says
            (auto, the default).
        soft_edges: Let images end softly at their edges: yes, no, or (auto, the default) where jumps there outweigh
            the noise.
        memory_gib: Memory for images (default: 2); what does not fit is read from disk as it is used.
        device: cpu, cuda, cuda:1, or auto (default): a GPU if there is one.
        seed: Seed of everything random, the two halves of the images included (default: 0).
    """

    invert: Annotated[Literal["auto", "yes", "no"] | None, optional("auto|yes|no")] = None
    normalise: Annotated[Literal["yes", "no"] | None, optional("yes|no")] = None
    ctf_applied: Annotated[
        Literal["auto", "none", "phases", "multiplied"] | None, optional("auto|none|phases|multiplied")
    ] = None
    soft_edges: Annotated[Literal["auto", "yes", "no"] | None, optional("auto|yes|no")] = None
    memory_gib: Annotated[float | None, optional("GIB")] = None
    device: Annotated[str | None, optional("NAME")] = None
    seed: Annotated[int | None, optional("K")] = None

    def given(self) -> dict[str, Any]:
        """The settings that were given, as :class:`cryoformer.images.settings.ImageSettings` names them."""
        values = {name: value for name, value in vars(self).items() if value is not None}
        return values | ({"normalise": self.normalise == "yes"} if self.normalise else {})

    def settings(self) -> "ImageSettings":
        """The settings, with defaults for what was not given.

        Raises:
            InputError: a value that cannot be.
        """
        from pydantic import ValidationError

        from cryoformer.images.settings import ImageSettings

        try:
            return ImageSettings(**self.given())
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]).replace("_", "-")
            raise InputError(f"--{name} {first['input']}: {first['msg']}") from None


@dataclass(frozen=True)
class UnposedOptions:
    """Where the images of a particle file are, and their CTF, where it does not say so itself.

    Attributes:
        datadir: Folder to look for the image stacks in first.
        ctf: cryoDRGN's ctf.pkl, for images without CTF.
        no_ctf: The images have no CTF, or are corrected for it: take it as 1, whatever the file says.
    """

    datadir: OptionalFolder = None
    ctf: OptionalFile = None
    no_ctf: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False

    def of(self, particles: Path) -> "ParticleInput":
        """A particle file with what was given here."""
        from cryoformer.formats.particle_input import ParticleInput

        return ParticleInput(particles, **vars(self))


@dataclass(frozen=True)
class SourceOptions(UnposedOptions):
    """Where the images of a particle file are, their poses and their CTF, where it does not say so itself.

    Attributes:
        poses: cryoDRGN's poses.pkl, for images without poses.
    """

    poses: OptionalFile = None


@dataclass(frozen=True)
class RowOptions(SourceOptions):
    """Which particles of the file are used (all, if nothing is given), and where their images are.

    Attributes:
        ind: Rows to use, counted from 0: .npy, .txt with one a line, or cryoDRGN's .pkl.
        random: How many particles to draw at random.
        half: Half-set to use, as the file has it, or by the seed.
    """

    ind: OptionalFile = None
    random: Annotated[int | None, optional("N")] = None
    half: Annotated[int | None, optional("1|2")] = None


@dataclass(frozen=True)
class PlaceOptions:
    """Where the particles of a run are, if no longer where they were.

    Attributes:
        particles: Particle file of the run, where it is no longer found.
        datadir: Folder to look for the image stacks in first.
    """

    particles: OptionalFile = None
    datadir: OptionalFolder = None


Reading = Annotated[ImageOptions, tyro.conf.arg(name="image"), tyro.conf.OmitArgPrefixes]
Rows = Annotated[RowOptions, tyro.conf.arg(name="particle"), tyro.conf.OmitArgPrefixes]
Source = Annotated[SourceOptions, tyro.conf.arg(name="particle"), tyro.conf.OmitArgPrefixes]
Unposed = Annotated[UnposedOptions, tyro.conf.arg(name="particle"), tyro.conf.OmitArgPrefixes]
Place = Annotated[PlaceOptions, tyro.conf.arg(name="place"), tyro.conf.OmitArgPrefixes]
NOTHING_GIVEN = ImageOptions()
AS_IT_IS = SourceOptions()
WHERE_IT_WAS = PlaceOptions()

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

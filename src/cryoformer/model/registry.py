"""Networks of one's own: a decoder or an encoder from another file, chosen by its name like those that are built in.

    from cryoformer.model.registry import register_decoder

    @register_decoder("film")
    class FiLMDecoder(nn.Module): ...

``cryoformer --plugin film.py train ... --set model.decoder=film`` trains it, or, from Python, ``import film`` and then
``cryoformer.train(..., settings={"model.decoder": "film"})``. A run records the name alone: opening it never runs a
file that was not named by whoever opens it, and says which decoder is missing.
"""

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from jaxtyping import Float

from cryoformer.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from cryoformer.model.model_config import ModelConfig


class Decoder(Protocol):
    """From spatial features and the deformation feature to density: a ``torch.nn.Module``.

    Made as ``kind(config, mean, spread)``: the settings, and mean [f] and spread of phi(x) at the start
    (:meth:`~cryoformer.model.spatial_features.SpatialFeatures.mean_and_spread`). Outputs of a size near one are wanted:
    they are multiplied by the standard deviation of the density expected.
    """

    def __call__(
        self, features: 'Float[Tensor, "p f"]', deformation: 'Float[Tensor, "b n c"]'
    ) -> 'Float[Tensor, "b p"]':
        """Density at p points of phi(x), for b images of F_D."""


class Encoder(Protocol):
    """From a latent coordinate to the deformation feature: a ``torch.nn.Module``, made as ``kind(config)``.

    ``config`` holds ``latent_dimension`` (k), ``queries`` (N) and ``channels`` (C).
    """

    def __call__(self, latents: 'Float[Tensor, "b k"]') -> 'Float[Tensor, "b n c"]':
        """F_D of latents."""


DECODERS: dict[str, Callable[["ModelConfig", Any, float], Any]] = {}
ENCODERS: dict[str, Callable[["ModelConfig"], Any]] = {}

# Files of networks that were read, for the other processes of a run to read too.
PLUGINS: list[str] = []

Kind = TypeVar("Kind", bound=Callable[..., Any])


def register_decoder(name: str) -> Callable[[Kind], Kind]:
    """A class decorator: the class is what ``model.decoder`` means by this name."""
    return _register(name, DECODERS)


def register_encoder(name: str) -> Callable[[Kind], Kind]:
    """A class decorator: the class is what ``model.encoder`` means by this name."""
    return _register(name, ENCODERS)


def _register(name: str, known: dict[str, Any]) -> Callable[[Kind], Kind]:
    def remember(kind: Kind) -> Kind:
        known[name] = kind
        return kind

    return remember


def read_plugin(path: str) -> None:
    """Run a Python file, which registers networks.

    Raises:
        InputError: no such file, or one that fails.
    """
    try:
        spec = spec_from_file_location(Path(path).stem, path)
        if spec is None or spec.loader is None:
            raise InputError(f"--plugin {path}: expected a Python file (.py)")
        spec.loader.exec_module(module_from_spec(spec))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"--plugin {path}: cannot be read as a Python file ({error})") from error
    PLUGINS.append(path)

"""Networks and models of the domain that the settings name, made anew or from a checkpoint."""

from typing import Any

from torch import Tensor

from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.fourier_model import FourierConformationModel
from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.fourier import FourierCryoFormer
from cryoformer.model.model_config import ModelConfig


def new_network(config: ModelConfig, box: int) -> CryoFormer:
    """The network of the domain that the settings name."""
    return FourierCryoFormer(config, box) if config.domain == "fourier" else CryoFormer(config, box)


def model_tensors(model: ConformationModel) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The model as tensors and facts for a checkpoint."""
    tensors = {f"network.{name}": value for name, value in model.network.state_dict().items()}
    tensors |= {"base": model.static, "window": model.window, "gain": model.gain}
    facts = {"model": dict(vars(model.network.config)), "pixel_size_angstrom": model.pixel_size_angstrom}
    return tensors, facts


def model_from_tensors(tensors: dict[str, Tensor], facts: dict[str, Any]) -> ConformationModel:
    """The inverse of :func:`model_tensors`."""
    static = tensors["base"]
    network = new_network(ModelConfig(**facts["model"]), static.shape[-1])
    weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
    # Runs of version 0.1.0 hold factors of the hash levels, which were always 1.
    weights.pop("spatial.encoding.level_weights", None)
    network.load_state_dict(weights)
    network.to(static.device)
    model = new_model(network, static, tensors["window"], float(facts["pixel_size_angstrom"]))
    model.gain = tensors["gain"]
    return model


def new_model(network: CryoFormer, static: Tensor, window: Tensor, pixel_size_angstrom: float) -> ConformationModel:
    """The model of the network's domain."""
    if isinstance(network, FourierCryoFormer):
        return FourierConformationModel(network, static, window, pixel_size_angstrom)
    return ConformationModel(network, static, window, pixel_size_angstrom)

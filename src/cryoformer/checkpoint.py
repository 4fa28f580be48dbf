"""What a run keeps on disk to go on from: safetensors for arrays, JSON for the rest, never a pickle.

A checkpoint is one ``.safetensors`` file whose metadata hold the JSON, so that it is whole or not there: it is written
beside its place and then renamed.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cryoformer.errors import InputError
from cryoformer.files import atomic_path


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON-able facts to ``path``."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(plain, temporary, metadata={"facts": json.dumps(facts)})
        except SafetensorError as error:
            # The library hides the number of the system's error in its text.
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]), str(error), str(path)) if number else error from error


def load_tensors(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a file that :func:`save_tensors` wrote.

    Raises:
        InputError: the file is missing, may not be read, or is not such a file.
    """
    if path.exists() and not os.access(path, os.R_OK):
        raise InputError(
            f"{path}: no permission to read it; ask its owner for it (chmod -R a+rX {path.absolute().parent.parent})"
        )
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            facts = json.loads((file.metadata() or {})["facts"])
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not a checkpoint of this program ({error}); train again or use --resume") from None
    return tensors, facts


def flatten_optimizer(state: dict[str, Any]) -> tuple[dict[str, Tensor], list[Any]]:
    """Adam's state as named tensors, and its parameter groups as JSON-able facts."""
    tensors = {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, values in state["state"].items()
        for name, value in values.items()
    }
    return tensors, state["param_groups"]


def unflatten_optimizer(tensors: dict[str, Tensor], groups: list[Any]) -> dict[str, Any]:
    """The inverse of :func:`flatten_optimizer`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": groups}

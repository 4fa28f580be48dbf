"""The device that work is done on, found before anything is read or written."""

import torch

from cryoformer.errors import InputError


def usable_device(name: str) -> torch.device:
    """The device of this name; "auto" is a GPU if there is one.

    Raises:
        InputError: no such device, or a torch that was built without it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--device {name}: cannot be used ({reason}); give one that is there, such as cpu") from None

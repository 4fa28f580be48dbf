"""Whether a device is there, before anything is read or written."""

import torch

from cryoformer.errors import InputError


def check_device(name: str) -> None:
    """Refuse a device that cannot be used.

    Raises:
        InputError: no such device, or a torch that was built without it.
    """
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--device {name}: cannot be used ({reason}); give one that is there, such as cpu") from None

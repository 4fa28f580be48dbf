"""A device that is not the CPU, for machines that have none: mistakes of device show on the CPU.

Tensors on it hold ordinary memory, so every stage runs with its real numbers; but they say that they are on ``meta``,
and an operation that mixes them with tensors of the CPU fails, as it would on a GPU. What a GPU does without a word,
copying between devices (an index on the CPU, ``x[rows] = ...`` from the CPU), fails too. Explicit ``.to()``, ``.cpu()``
and ``float()`` pass, and are counted. Threads other than the one that made it do not see the device.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("meta")
TO = torch.ops.aten._to_copy.default


class WrongDevice(Exception):
    """An operation on tensors of two devices."""


class OnDevice(Tensor):
    """A tensor of the pretended device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnDevice":
        dense = inner.layout == torch.strided
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset()} if dense else {}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=DEVICE, **layout)
        made.inner = inner
        return made

    def __repr__(self, *given: Any, **more: Any) -> str:
        return f"OnDevice({self.inner!r})"

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, *given: Any, **more: Any) -> Any:
        raise TypeError("a tensor of a device cannot be an array; copy it to the CPU first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on the memory of its tensors, on the device that they are on."""
    tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
    ours = [each for each in tensors if isinstance(each, OnDevice)]
    target = kwargs.get("device")
    target = None if target is None else torch.device(target)
    if ours and any(each.dim() and not isinstance(each, OnDevice) for each in tensors):
        raise WrongDevice(f"{func}: tensors of the CPU and of the device together")
    here = bool(ours) if target is None else target == DEVICE
    if ours and not here and func is not TO:
        raise WrongDevice(f"{func}: to another device, and not by .to()")
    if target is not None:
        kwargs = kwargs | {"device": "cpu"}
    plain_args, plain_kwargs = tree_map_only(OnDevice, lambda each: each.inner, (args, kwargs))
    with torch._C._DisableTorchDispatch():
        found = func(*plain_args, **plain_kwargs)
    if not here:
        return found
    known = {id(each.inner): each for each in ours}
    return tree_map_only(Tensor, lambda each: known[id(each)] if id(each) in known else OnDevice(each), found)


class _Literals(TorchFunctionMode):
    """``torch.tensor(..., device=...)``, which asks no dispatch mode."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == DEVICE:
            return func(*args, **kwargs | {"device": "cpu"}).to(DEVICE)
        return func(*args, **kwargs)


class PretendDevice(TorchDispatchMode):
    """Within this block, ``torch.device("meta")`` is such a device.

    Attributes:
        transfers: how often what was brought to or from it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.transfers: Counter[str] = Counter()
        self._literals = _Literals()

    def __enter__(self) -> "PretendDevice":
        self._literals.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *given: Any) -> None:
        super().__exit__(*given)
        self._literals.__exit__(*given)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is TO and kwargs.get("device") is not None:
            self.transfers["to the device" if torch.device(kwargs["device"]) == DEVICE else "from the device"] += 1
        if func is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], OnDevice):
            self.transfers["one number"] += 1
        return run(func, args, kwargs)

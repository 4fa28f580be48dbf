"""Arrays for the browser: a JSON header and raw little-endian numbers in one message."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

TYPES = {"float32": "<f4", "uint32": "<u4", "int32": "<i4", "uint8": "|u1"}
ALIGNMENT = 4


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Length of the header (uint32), the header as JSON, then the arrays, each at a multiple of four bytes.

    The header gains ``arrays``: name, type and shape of each, in order. Float arrays travel as float32.
    """
    prepared = {name: _portable(array) for name, array in arrays.items()}
    listed = [{"name": n, "type": str(a.dtype.name), "shape": list(a.shape)} for n, a in prepared.items()]
    text = json.dumps({**header, "arrays": listed}).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    parts = [len(text).to_bytes(4, "little"), text]
    for array in prepared.values():
        parts += [array.tobytes(), bytes(-array.nbytes % ALIGNMENT)]
    return b"".join(parts)


def _portable(array: np.ndarray) -> np.ndarray:
    name = "float32" if array.dtype.kind == "f" else array.dtype.name
    if name not in TYPES:
        raise TypeError(f"arrays of {array.dtype} have no place in a message; give one of {', '.join(TYPES)}")
    return np.ascontiguousarray(array, dtype=TYPES[name])

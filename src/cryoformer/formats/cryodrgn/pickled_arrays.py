"""Pickles that hold NumPy arrays and nothing else, read without running what they say.

A pickle is a program that may call anything. Here nothing that it names is ever looked up: the few names that a
pickled array needs get stand-ins, which keep the shape, the type and the bytes; the array is made of them at the end.
Whatever else a pickle names, calls or holds is an error. Memory stays within a small multiple of the size of the file.
"""

import io
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from cryoformer.errors import InputError

# Numbers only: no objects, text, dates or records.
PLAIN_TYPE = r"[<>|=]?[biuf][1248]"

# Decoding may at most double the bytes, and each part of the file is decoded once.
ENCODE_LIMIT = 4


def load_pickled_arrays(path: Path) -> list[np.ndarray]:
    """The arrays of a pickle that holds one array, or a tuple or list of arrays.

    A list of numbers, as in index files, is one array. The arrays share the bytes of the file and may be read-only.

    Raises:
        InputError: the file is missing, is no pickle, is damaged, or holds anything but arrays of numbers.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a pickle of NumPy arrays (.pkl)")
    content = path.read_bytes()
    if content.startswith(b"PK\x03\x04"):
        raise InputError(
            f"{path}: this is a PyTorch archive (torch.save), which is not read; write its arrays with pickle.dump as "
            "plain NumPy arrays"
        )
    try:
        _check_sizes(content)
        return _as_arrays(_ArrayUnpickler(content).load())
    except InputError:
        raise
    except Exception as error:
        # Hostile or damaged bytes make the interpreter fail in any way it can.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{path}: not read, because it is no plain pickle of NumPy arrays ({reason}); expected what cryoDRGN "
            "writes (poses.pkl, ctf.pkl)"
        ) from error


def _check_sizes(content: bytes) -> None:
    """No instruction reads past the end of the file, and the memo is no longer than the file.

    The interpreter reserves memory for what an instruction promises before it looks whether that is there.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name.endswith("PUT") and not 0 <= int(argument or 0) <= len(content):
            raise ValueError("its memo is longer than the file")


class _DType:
    """Stands for a ``numpy.dtype``: the code of a number type and, filled in later, its byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.dtype = _plain_type(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, subarray, names, fields = state[1:5]
        if order not in ("<", ">", "=", "|") or not (subarray is names is fields is None):
            raise ValueError("an array is no array of plain numbers")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for a ``numpy.ndarray``, which is empty until its state is set."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _from_bytes(data, dtype, shape, "F" if fortran else "C")


class _Callable:
    """A name that a pickle may call. It has no state of its own that a pickle could change."""

    __slots__ = ("_function",)

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it tries to change a function")


class _ArrayUnpickler(pickle.Unpickler):
    """The interpreter with stand-ins for the names that arrays of NumPy 1 and 2 need, and no other names."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self._encoded, self._encode_limit = 0, ENCODE_LIMIT * len(content)
        self._names = {
            ("numpy", "ndarray"): _Callable(_refuse),
            ("numpy", "dtype"): _Callable(_DType),
            ("_codecs", "encode"): _Callable(self._encode),
            # How no bytes at all stand in pickles before protocol 3.
            ("__builtin__", "bytes"): _Callable(lambda: b""),
        }
        for core in ("numpy.core", "numpy._core"):
            self._names[f"{core}.multiarray", "_reconstruct"] = _Callable(_reconstruct)
            self._names[f"{core}.multiarray", "scalar"] = _Callable(_scalar)
            self._names[f"{core}.numeric", "_frombuffer"] = _Callable(_from_buffer)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[module, name]
        except KeyError:
            raise ValueError(f"it asks for {module}.{name}") from None

    def _encode(self, text: str, encoding: str) -> bytes:
        """How bytes stand in pickles before protocol 3."""
        if encoding != "latin1":
            raise ValueError(f"it asks for the encoding {encoding}")
        self._encoded += len(text)
        if self._encoded > self._encode_limit:
            raise ValueError("it unpacks to more than the size of the file")
        return text.encode("latin-1")


def _refuse(*_: Any) -> None:
    raise ValueError("it calls numpy.ndarray")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    filled = _Array()
    filled.array = _from_bytes(data, dtype, shape, order)
    return filled


def _scalar(dtype: Any, data: Any) -> float | int | bool:
    value: float | int | bool = _from_bytes(data, dtype, (1,), "C")[0].item()
    return value


def _plain_type(code: Any) -> np.dtype:
    if not isinstance(code, str) or not re.fullmatch(PLAIN_TYPE, code):
        raise ValueError(f"an array holds {str(code)[:20]!r}, not plain numbers")
    return np.dtype(code)


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array that shares the bytes of the file: only bytes that are there become numbers."""
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _DType) or order not in ("C", "F"):
        raise ValueError("an array has no bytes or no type")
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("an array has no shape")
    return np.frombuffer(data, dtype=dtype.dtype).reshape(shape, order=order)


def _as_arrays(content: Any) -> list[np.ndarray]:
    entries = content if isinstance(content, tuple | list) else [content]
    if entries and all(type(entry) in (int, float) for entry in entries):
        return [np.array(entries)]
    arrays = [entry.array for entry in entries if isinstance(entry, _Array) and entry.array is not None]
    if len(arrays) < len(entries) or not arrays:
        raise ValueError("it holds something other than arrays")
    return arrays

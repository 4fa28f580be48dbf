"""Pickles: every way in which NumPy writes arrays is read, and nothing else is."""

import builtins
import os
import pickle
import re
import struct
import subprocess
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoformer.errors import InputError
from cryoformer.formats.cryodrgn.pickled_arrays import load_pickled_arrays


def refused(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_pickled_arrays(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("core", [b"numpy._core", b"numpy.core"])
def test_arrays_of_every_protocol_and_of_both_numpy_generations(tmp_path, protocol, core):
    arrays = (
        np.random.default_rng(0).normal(size=(4, 3, 3)),
        np.asfortranarray(np.arange(8, dtype=">f4").reshape(4, 2)),
    )
    content = pickle.dumps(arrays, protocol)
    if core == b"numpy.core":
        # The names of NumPy 1; in protocol 4 and 5 a name stands behind the byte that gives its length.
        for module in (b".multiarray", b".numeric"):
            new, old = b"numpy._core" + module, core + module
            content = content.replace(bytes([len(new)]) + new, bytes([len(old)]) + old).replace(new, old)
        if protocol >= 4:
            # Without frames, whose lengths no longer fit.
            start = content.index(b"\x95")
            content = content[:start] + content[start + 9 :]
        assert b"_core" not in content
    (tmp_path / "a.pkl").write_bytes(content)
    for read, written in zip(load_pickled_arrays(tmp_path / "a.pkl"), arrays, strict=True):
        np.testing.assert_array_equal(read, written)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "content", [[3, 1, 4], [np.int64(3), np.int64(1)], np.arange(5), [np.arange(5)], np.zeros((0, 3)), np.bool_([True])]
)
def test_index_files(tmp_path, protocol, content):
    (tmp_path / "ind.pkl").write_bytes(pickle.dumps(content, protocol))
    (read,) = load_pickled_arrays(tmp_path / "ind.pkl")
    np.testing.assert_array_equal(read, content[0] if isinstance(content, list) and len(content) == 1 else content)


class Hostile:
    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "hostile",
    [
        Hostile(os.system, "touch broken-in"),
        Hostile(builtins.eval, "open('broken-in', 'w')"),
        Hostile(builtins.exec, "open('broken-in', 'w')"),
        Hostile(subprocess.Popen, ["touch", "broken-in"]),
        Hostile(np.frompyfunc, len, 1, 1),
        Hostile(np.load, "other.npy"),
        Hostile(np.fromfile, "other.npy"),
        Hostile(np.ndarray, (2**40,)),
        Hostile(np.zeros, (2**40,)),
        Hostile(getattr, "text", "join"),
        np.add,
        np.ndarray,
        {"rot": np.zeros(3)},
        "text",
        3.5j,
        np.array([None, 1]),
        np.array(["text"]),
        np.zeros(2, dtype=[("a", "f4")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.ma.masked_array([1, 2], [True, False]),
        (),
        [],
    ],
    # Without addresses in memory: processes that share the tests know them by name.
    ids=lambda hostile: re.sub(r" at 0x\w+", "", repr(getattr(hostile, "reduced", hostile)))[:40],
)
def test_anything_else_is_refused_and_never_run(tmp_path, monkeypatch, protocol, hostile):
    monkeypatch.chdir(tmp_path)
    for content in (hostile, (np.zeros(2), hostile), [[hostile]]):
        refused(tmp_path / "a.pkl", pickle.dumps(content, protocol))
    assert os.listdir() == ["a.pkl"]


def test_hostile_state_of_an_array(tmp_path, monkeypatch):
    """An array whose own state runs something when it is put together."""
    monkeypatch.chdir(tmp_path)
    honest = pickle.dumps(np.zeros(3), 2)
    call = b"cposix\nsystem\nX\x0f\x00\x00\x00touch broken-in\x85R"
    message = refused(tmp_path / "a.pkl", honest[:-2] + b"0" + call + b"b.")
    assert "posix.system" in message
    assert os.listdir() == ["a.pkl"]


@pytest.mark.parametrize(
    "name",
    ["os.system", "numpy.core.multiarray.fromfile", "numpy._core.multiarray._reconstruct.__globals__", "numpy.load"],
)
def test_names_are_refused_by_name(tmp_path, name):
    module, _, function = name.rpartition(".")
    assert name in refused(tmp_path / "a.pkl", f"c{module}\n{function}\n.".encode())


def test_the_stand_ins_cannot_be_changed(tmp_path):
    """BUILD on a function would otherwise set its attributes, for this file and every later one."""
    for function in ("numpy.core.multiarray\n_reconstruct", "numpy\ndtype", "_codecs\nencode"):
        state = b"NX\x09\x00\x00\x00_function\x8c\x00s\x86b.".replace(b"X", b"}X", 1)
        attack = b"\x80\x04c" + function.encode() + b"\n" + state
        assert "tries to change a function" in refused(tmp_path / "a.pkl", attack)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(np.ones(2)))
    np.testing.assert_array_equal(load_pickled_arrays(tmp_path / "a.pkl")[0], [1, 1])


def test_sizes_that_are_not_there_cost_no_memory(tmp_path):
    state = (1, (2**45, 3), np.dtype("f8"), False, b"few bytes")
    array = pickle.dumps(np.zeros(1), 2)[:-2]
    text = b"X" + struct.pack("<I", 10**5) + b"a" * 10**5
    decode = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    bombs = [
        b"\x80\x04Nr\x00\x00\x00\x01.",  # a memo of 2^24 entries
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",  # a byte array of a terabyte
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",  # bytes of a terabyte
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",  # a frame beyond all
        array + b"0" + pickle.dumps(state, 2)[2:-1] + b"b.",  # an array far larger than its bytes
        b"\x80\x02" + text + b"q\x000" + decode * 500 + b".",  # one text decoded again and again
    ]
    for bomb in bombs:
        (tmp_path / "a.pkl").write_bytes(bomb)
        tracemalloc.start()
        with pytest.raises(InputError):
            load_pickled_arrays(tmp_path / "a.pkl")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10 * len(bomb) + 2**20


def test_pytorch_archives_and_other_files(tmp_path):
    assert "PyTorch archive" in refused(tmp_path / "a.pkl", b"PK\x03\x04...")
    for content in (b"", b"no pickle", b"\x80\x04", b"\x80\x04."):
        assert "no plain pickle" in refused(tmp_path / "a.pkl", content)
    with pytest.raises(InputError, match=r"none\.pkl: no such file"):
        load_pickled_arrays(tmp_path / "none.pkl")


HONEST = pickle.dumps((np.arange(9.0).reshape(1, 3, 3), np.zeros((1, 2))), 4)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(HONEST) - 1), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_damaged_pickles_end_in_arrays_or_in_one_error(tmp_path_factory, changes, cut):
    path = tmp_path_factory.mktemp("fuzz") / "a.pkl"
    content = bytearray(HONEST)
    for place, value in changes:
        content[place] = value
    path.write_bytes(content[: changes[0][0]] if cut else content)
    try:
        arrays = load_pickled_arrays(path)
    except InputError:
        return
    assert all(isinstance(array, np.ndarray) for array in arrays)

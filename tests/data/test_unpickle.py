"""The restricted unpickler: reads what published metadata holds, of any age, and runs nothing."""

from __future__ import annotations

import builtins
import collections
import os
import pickle
import struct
import time

import numpy as np
import pytest

from tmgan.data.sources import unpickle
from tmgan.data.sources.unpickle import load_metadata_pickle


@pytest.fixture
def load(tmp_path):
    def load_bytes(data: bytes):
        file = tmp_path / "class_info.pickle"
        file.write_bytes(data)
        return load_metadata_pickle(file)

    return load_bytes


@pytest.mark.parametrize("protocol", range(6))
def test_plain_metadata(load, protocol):
    value = [["001.A/x", "002.B/y"], {0: "<end>", 1: "bird"}, (1, 2.5, True, None, b"\xff\x00", b""), 2**70, []]
    value.append(collections.OrderedDict(a=1))
    assert load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["<i8", ">i4", "<f4", "|u1", "|b1"])
def test_numeric_arrays(load, protocol, dtype):
    array = np.asfortranarray(np.arange(6).reshape(2, 3)).astype(dtype)
    found = load(pickle.dumps([array, array[0], np.float32(1.5), np.int64(7)], protocol))
    assert np.array_equal(found[0], array) and np.array_equal(found[1], array[0]) and found[2:] == [1.5, 7]
    assert found[0].dtype.isnative and found[0].dtype.kind == array.dtype.kind
    assert isinstance(found[2], float) and isinstance(found[3], int)


def test_python2_lists(load):
    assert load(b"(lp0\nS'001.A/x'\np1\naI5\naL6L\naVcaf\xe9\np2\na.") == ["001.A/x", 5, 6, "café"]
    assert load(b"\x80\x02]q\x00(U\x05caf\xc3\xa9q\x01K\x05\x8a\x01\x06e.") == ["cafÃ©", 5, 6]  # str bytes as latin1


def test_python2_array(load):
    """As numpy 1.x of Python 2 wrote class_info.pickle with protocol 2."""
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01bq\x04\x87q\x05Rq\x06"
        b"(K\x01K\x03\x85q\x07cnumpy\ndtype\nq\x08U\x02i4q\tK\x00K\x01\x87q\nRq\x0b"
        b"(K\x03U\x01<q\x0cNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\rb\x89U\x0c"
        + struct.pack("<3i", 1, 200, -3)
        + b"q\x0etq\x0fb."
    )
    assert load(data).tolist() == [1, 200, -3]


class _Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "argument", "named"),
    [(os.system, "touch {}", "system"), (builtins.eval, "open('{}', 'w')", "eval"), (getattr, "{}", "getattr")],
)
def test_calls_are_refused(load, tmp_path, protocol, function, argument, named):
    marker = tmp_path / "marker"
    attack = _Calls(function, argument.format(marker), *(["upper"] if function is getattr else []))
    for value in (attack, [1, {"a": attack}], np.array([attack], dtype=object)):
        with pytest.raises(ValueError, match="refused") as error:
            load(pickle.dumps(value, protocol))
        assert "class_info.pickle" in str(error.value)
        assert named in str(error.value) or "dtype('O8')" in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"cposix\nsystem\n(S'true'\ntR.", "posix.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "__builtin__.eval"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", "os.system"),
        (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
        (b"cbuiltins\n__import__\n(S'os'\ntR.", "__import__"),
        (b"\x80\x04\x8c\x08builtins\x8c\x0cstr.__base__\x93.", "str.__base__"),
        (b"ccollections\nOrderedDict.fromkeys\n.", "OrderedDict.fromkeys"),
        (b"cbuiltins\nlist\n.", "builtins.list"),
        (b"cbuiltins\nbytes\n.", "call"),
        (b"\x80\x02]\x81.", "opcode"),
        (b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.", "rot13"),
        (b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.", "dtype('O8')"),
        (b"cnumpy\ndtype\n(S'V16'\nI0\nI1\ntR.", "dtype('V16')"),
        (b"cnumpy\ndtype\n(S'i8'\nI0\nI1\ntR.", "dtype"),
    ],
)
def test_handmade_pickles_are_refused(load, data, named):
    with pytest.raises(ValueError) as error:
        load(data)
    assert named in str(error.value) and "class_info.pickle" in str(error.value)


@pytest.mark.parametrize(
    "name", ["cnumpy\ndtype\n", "c_codecs\nencode\n", "cbuiltins\nlist\n", "ccollections\nOrderedDict\n"]
)
def test_what_is_handed_out_cannot_be_changed(load, name):
    """BUILD sets attributes: with a state (dict, dict) by setattr. The next file must not feel it."""
    with pytest.raises(ValueError):
        load(name.encode() + b"((dS'__doc__'\nS'changed'\ns(dS'__call__'\nI1\nstb.")
    assert load(pickle.dumps([np.arange(3), collections.OrderedDict(a=b"x")], 2))[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x80\x02]q\x00(K\x01",
        b"\x89PNG\r\n",
        pickle.dumps(np.arange(9))[:-20],
        b"Pid\n.",
        b"\x80\x02\x82\x05.",
    ],
)
def test_damaged(load, data):
    with pytest.raises(ValueError, match="class_info.pickle"):
        load(data)


def test_array_of_impossible_shape(load):
    data = pickle.dumps(np.arange(3, dtype=np.int64), 2)
    with pytest.raises(ValueError, match="class_info.pickle"):
        load(data.replace(b"K\x01K\x03\x85", b"K\x01J\xff\xff\xff\x7f\x85"))


def test_nesting_neither_explodes_nor_overflows(load):
    start = time.process_time()
    value: list = []
    for _ in range(64):
        value = [value, value]  # 2**64 paths, which any reader of the list would walk
    with pytest.raises(ValueError, match="class_info.pickle.*the same parts again and again"):
        load(pickle.dumps(value))
    with pytest.raises(ValueError, match="class_info.pickle"):
        load(b"(l" * 1 + b"(l" * 100_000 + b"a" * 100_000 + b".")
    assert time.process_time() - start < 5


def test_size_is_capped(load, monkeypatch):
    monkeypatch.setattr(unpickle, "MAX_BYTES", 100)
    assert load(pickle.dumps([1])) == [1]
    with pytest.raises(ValueError, match="class_info.pickle.*too much"):
        load(pickle.dumps("x" * 200))


def test_a_number_of_bytes_is_refused(load):
    """43 bytes of a file may ask for 2 GB."""
    call = b"\x80\x02c__builtin__\nbytes\nJ" + struct.pack("<i", 50_000_000) + b"\x85R."
    with pytest.raises(ValueError, match="it asks for 50000000 bytes"):
        load(call)
    assert load(pickle.dumps([b"abc", b""], protocol=2)) == [b"abc", b""]


_TEXT = b"c_codecs\nencode\nq\x00U\x40" + b"a" * 64 + b"q\x01"
_SMALL = {
    "a place in the memo that takes 32 GB": (b"\x80\x02]r\xff\xff\xff\x7f.", ""),
    "64 GB of bytes": (b"\x80\x04\x8e\0\0\0\0\x10\0\0\0.", "EOFError"),
    "a hash of 2**40 steps": (b"\x80\x02})" + b"q\0h\0\x86" * 40 + b"K\x01s.", "a key of type tuple"),
    "keys of one hash": (b"\x80\x02}\x8a\x0b" + (2**61 - 1).to_bytes(11, "little") + b"K\x01s.", "a key of type int"),
    "copies of one text": (b"\x80\x02(" + _TEXT + b"h\0h\x01U\x06latin1\x86R" * 20 + b"l.", "more copies"),
    "the text of a list": (b"\x80\x02c__builtin__\nstr\n]\x85R.", "__builtin__.str"),
}


@pytest.mark.parametrize(("data", "named"), _SMALL.values(), ids=_SMALL)
def test_a_small_file_takes_neither_memory_nor_time(load, data, named):
    """Each took gigabytes or hours, most of them out of reach of Ctrl-C."""
    start = time.process_time()
    if named:
        with pytest.raises(ValueError, match=named):
            load(data)
    else:
        assert load(data) == []
    assert time.process_time() - start < 5


def test_a_dictionary_takes_no_attributes(load):
    with pytest.raises(ValueError, match="an opcode for a StandIn on a OrderedDict"):
        load(b"\x80\x02ccollections\nOrderedDict\n)R}U\x01aK\x01sb.")

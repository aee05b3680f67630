"""Matlab's lists are read as scipy reads them, and what is none ends in a sentence."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from tmgan.data.sources.matlab import MOST_BYTES, read_arrays


def saved(values: dict, **options) -> bytes:
    out = io.BytesIO()
    savemat(out, values, **options)
    return out.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "i8", "f4", "f8"])
def test_arrays_are_those_of_scipy(compressed, kind):
    values = {"labels": np.arange(1, 9, dtype=kind)[None], "x": np.arange(6, dtype=kind).reshape(2, 3), "a": np.ones(1)}
    data = saved({**values, "text": "abc", "cell": np.array([1, "a"], object)}, do_compression=compressed)
    found, expected = read_arrays(data), loadmat(io.BytesIO(data))
    assert found.keys() == values.keys()
    assert all(np.array_equal(found[name], expected[name].ravel(order="F")) for name in found)


def test_a_number_of_no_type_is_no_array():
    """scipy reads beyond its table of types, and the process ends."""
    data = saved({"labels": np.arange(1, 9, dtype=np.int32)[None]})
    tag = struct.pack("<II", 5, 32)
    assert data.count(tag) == 1
    assert read_arrays(data.replace(tag, struct.pack("<II", 10, 32))) == {}


def test_what_inflates_to_gigabytes_is_refused():
    data = saved({"labels": np.zeros((1, MOST_BYTES))}, do_compression=True)
    assert len(data) < MOST_BYTES / 50
    with pytest.raises(ValueError, match="a part of more than 1,048,576 bytes"):
        read_arrays(data)


def test_many_parts_that_inflate_share_one_budget():
    """A file of 1 MB had 966 of them, and took as many megabytes."""
    part = {"labels": np.zeros((1, MOST_BYTES - 200), np.uint8)}
    first, header = saved(part, do_compression=True), 128
    assert read_arrays(first + 6 * first[header:])["labels"].size == MOST_BYTES - 200
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="inflates to more than 8,388,608 bytes"):
            read_arrays(first + 900 * first[header:])
        assert tracemalloc.get_traced_memory()[1] < 16 * MOST_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-20], "ends too early"),
        (lambda data: data.replace(struct.pack("<ii", 1, 8), struct.pack("<ii", 1, 9)), "not as many numbers"),
        (lambda data: b"", "version 5"),
        (lambda data: b"\x89HDF\r\n\x1a\n" + data[8:124] + b"\0\2IM", "version 5"),
        (lambda data: data + b"\0" * MOST_BYTES, "more than 1,048,576"),
    ],
)
def test_damaged(change, message):
    with pytest.raises(ValueError, match=message):
        read_arrays(change(saved({"labels": np.arange(1, 9)[None]})))

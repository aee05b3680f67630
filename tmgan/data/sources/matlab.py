"""Read arrays of numbers from a Matlab file of version 5: all that Oxford's lists need.

scipy.io.loadmat is not for files from anywhere: it inflates what it is given, and a number that stands for no type
makes it read beyond its table of types, which ends the process. The format is in MathWorks' "MAT-File Format".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

MOST_BYTES = 2**20  # of a file, and of what each of its parts inflates to; Oxford's have less than 20 kB
_MOST_INFLATED = 2**23  # bytes that all parts of a file inflate to
_HEADER = 128
_COMPRESSED, _MATRIX = 15, 14
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC = range(6, 16)  # classes of arrays: double to uint64
_COMPLEX = 0x0800

Order = Literal["<", ">"]


class _Element(NamedTuple):
    kind: int
    data: bytes


def read_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Real numeric arrays by name, as they lie in the file: one dimension, column after column.

    Arrays of text, cells and structures are left out.

    Raises:
        ValueError: it is no file of version 5, or is damaged.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes")
    marks: dict[bytes, Order] = {b"\0\1IM": "<", b"\1\0MI": ">"}
    order = marks.get(data[124:_HEADER])
    if order is None:
        raise ValueError("it is not of Matlab's version 5")
    arrays: dict[str, np.ndarray] = {}
    left = _MOST_INFLATED
    for element in _elements(data[_HEADER:], order):
        if element.kind == _COMPRESSED:
            whole = _inflated(element.data)
            left -= len(whole)
            if left < 0:
                raise ValueError(f"it inflates to more than {_MOST_INFLATED:,} bytes")
            element = next(_elements(whole, order), _Element(0, b""))
        if element.kind == _MATRIX:
            arrays |= _array(list(_elements(element.data, order)), order)
    return arrays


def _elements(data: bytes, order: Order) -> Iterator[_Element]:
    """The elements that lie one after another; a short one has its size in the upper half of its type."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        if start + size > len(data):
            raise ValueError("it ends too early")
        yield _Element(kind, data[start : start + size])
        end = start + size
        place = end if kind == _COMPRESSED else end + -end % 8


def _inflated(data: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        whole = inflate.decompress(data, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if inflate.unconsumed_tail:
        raise ValueError(f"a part of more than {MOST_BYTES:,} bytes")
    return whole


def _array(parts: list[_Element], order: Order) -> dict[str, np.ndarray]:
    """An array by its name; nothing if it is none of real numbers."""
    if len(parts) < 4 or len(parts[0].data) < 8:
        return {}
    flags, dimensions, name, numbers = parts[:4]
    (about,) = struct.unpack_from(f"{order}I", flags.data)
    if about & 0xFF not in _NUMERIC or about & _COMPLEX or numbers.kind not in _TYPES:
        return {}
    values = np.frombuffer(numbers.data, np.dtype(f"{order}{_TYPES[numbers.kind]}"))
    count = 1
    for size in np.frombuffer(dimensions.data, f"{order}i4").tolist():
        count *= size
    if count != len(values):
        raise ValueError("an array has not as many numbers as it says")
    return {name.data.decode("latin1"): values}

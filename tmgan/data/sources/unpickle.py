"""Read a pickle of data set metadata without running anything it contains.

A pickle is a program. This one may build lists, dictionaries, numbers, strings and numeric numpy arrays; whatever else
it asks for is refused. Arrays are rebuilt here from their bytes, so numpy's own (C) reconstructors are never reached.
"""

from __future__ import annotations

import collections
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tmgan.common.plain_pickle import Call, PlainUnpickler, Refused, StandIn, check_tree

MAX_BYTES = 64 * 1024**2  # a captions.pickle of birds has a few MB, one of COCO some tens


def load_metadata_pickle(path: Path) -> Any:
    """What the pickle at `path` holds: lists, tuples, dicts, strings, bytes, numbers, None and numeric numpy arrays.

    Pickles of Python 2 are read with `encoding="latin1"`. As a tree, what comes back is hardly larger than the file.

    Raises:
        ValueError: the file is over 64 MB, is not a pickle, or asks for anything else; the message says for what.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path}: {size / 1e6:.0f} MB is too much for metadata (at most {MAX_BYTES / 1e6:.0f} MB)")
    try:
        value = _Unpickler(io.BytesIO(path.read_bytes()), size).load()
        check_tree(value, size)
        return _plain(value, {})
    except Refused as error:
        raise ValueError(
            f"{path}: refused, it is not plain data: it asks for {error}. Do not open it with pickle.load either; "
            "get the metadata again from where it was published"
        ) from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"{path}: not a readable pickle of metadata ({type(error).__name__}: {error})") from error


class _DType(StandIn):
    """Stands in for numpy.dtype: numbers only, and only the byte order of its state is used."""

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or len(code) > 3 or code[:1] not in tuple("biuf") or not code[1:].isdigit():
            raise Refused(f"numpy.dtype({code!r:.60}), and only numbers are allowed in arrays")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])

    def array(self, data: Any, shape: tuple, order: Literal["C", "F"]) -> np.ndarray:
        if isinstance(data, str):  # the bytes of Python 2
            data = data.encode("latin1")
        if not isinstance(data, bytes):
            raise Refused(f"an array of {type(data).__name__}")
        return np.frombuffer(data, self.dtype).astype(self.dtype.newbyteorder("=")).reshape(shape, order=order)


class _Array(StandIn):
    """Stands in for numpy.ndarray until its bytes are known."""

    value: np.ndarray | None = None

    def __init__(self, pickle: _Unpickler) -> None:
        self._pickle = pickle

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self._pickle.pay(len(data))
        self.value = _check_dtype(dtype).array(data, shape, "F" if fortran else "C")


def _check_dtype(dtype: Any) -> _DType:
    if not isinstance(dtype, _DType):
        raise Refused(f"an array of {type(dtype).__name__}")
    return dtype


class _Unpickler(PlainUnpickler):
    """What metadata of any age ask for by name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return "numpy.ndarray"  # only ever an argument of _reconstruct
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in ("_reconstruct", "scalar"):
            return Call(name, self._reconstruct if name == "_reconstruct" else self._scalar)
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return Call(name, self._frombuffer)
        functions: dict[tuple[str, str], Callable[..., Any]] = {
            ("builtins", "bytes"): self._bytes,
            ("__builtin__", "bytes"): self._bytes,
            ("collections", "OrderedDict"): self._ordered,
            ("_codecs", "encode"): self._encode,
            ("numpy", "dtype"): self._dtype,
        }
        if (module, name) not in functions:
            raise Refused(f"{module}.{name}")
        return Call(name, functions[module, name])

    def _bytes(self, *values: Any) -> bytes:
        """Not as many as a number says, which Python's would make."""
        if values:
            raise Refused(f"{values[0]!r:.60} bytes" if isinstance(values[0], int) else "bytes of something")
        return b""

    def _ordered(self, pairs: Any = ()) -> collections.OrderedDict:
        self.pay(len(pairs))
        if not all(isinstance(pair, (list, tuple)) and isinstance(pair[0], str) for pair in pairs):
            raise Refused("a dictionary of what are no pairs")
        return collections.OrderedDict(pairs)

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise Refused(f"_codecs.encode to {encoding!r:.60}")
        self.pay(len(text))
        return text.encode("latin1")

    def _dtype(self, code: Any, *_: Any) -> _DType:
        return _DType(code)

    def _reconstruct(self, *_: Any) -> _Array:
        return _Array(self)

    def _scalar(self, dtype: Any, data: Any) -> int | float | bool:
        self.pay(len(data))
        return _check_dtype(dtype).array(data, (), "C").item()

    def _frombuffer(self, data: Any, dtype: Any, shape: tuple, order: Literal["C", "F"]) -> np.ndarray:
        self.pay(len(data))
        return _check_dtype(dtype).array(data, shape, order)


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """`value` with arrays in place of their stand-ins. `done` keeps shared parts shared, so nesting cannot explode."""
    if value is None or isinstance(value, (str, bytes, int, float, bool, np.ndarray)):
        return value
    if isinstance(value, _Array) and value.value is not None:
        return value.value
    if not isinstance(value, (list, tuple, dict)):
        raise Refused(f"a bare {type(value).__name__.strip('_').lower()}")
    if id(value) in done:
        return done[id(value)]
    done[id(value)] = value
    if isinstance(value, list):
        value[:] = [_plain(item, done) for item in value]
    elif isinstance(value, tuple):
        done[id(value)] = value = tuple([_plain(item, done) for item in value])
    else:
        for key in value:
            value[key] = _plain(value[key], done)
    return value

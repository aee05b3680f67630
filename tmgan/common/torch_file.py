"""Look at a file of torch before torch does: its pickles as plain data, its tensors as large as their numbers.

`torch.load(weights_only=True)` runs no code that a file brings, yet it may be asked for `bytearray(10**11)`, for a hash
of 2**40 steps, or for tensors that share a few bytes a million times. What is accepted here is what torch.save writes
for dicts, lists, numbers, texts and dense tensors, in its present format or that before 1.6.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

from tmgan.common.plain_pickle import Call, PlainUnpickler, Refused, StandIn, check_tree

_BYTES = {
    "Double": 8,
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "Char": 1,
    "Byte": 1,
    "Bool": 1,
}  # of a number, by the name of its storage
_STORAGES = tuple(f"{name}Storage" for name in _BYTES)
_BEFORE = 5  # pickles of the format before 1.6: a magic number, the version, the machine, the data, the storages' keys
_MOST_NUMBERS = 2**50
_ENTRY = 60  # bytes of the file that a pair of a dictionary has at least, with the tensor or the version in it


def check_torch_file(path: Path) -> None:
    """Refuse what torch.load should not be given.

    Raises:
        Refused: it asks for something else than plain data; the message says for what.
        ValueError: it is compressed, as torch never writes, or damaged; of damage there are other errors too.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        if file.read(2) == b"PK":
            _check_archive(path, size)
        else:
            file.seek(0)
            _check_stream(file, size)


def _check_archive(path: Path, size: int) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed, as torch never writes")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("its parts lie upon each other")
        broken = archive.testzip()  # torch verifies only some of the checksums
        if broken is not None:
            raise ValueError(f"the checksum of {broken} is wrong")
        sizes = {entry.filename.partition("/")[2]: entry.file_size for entry in entries}
        if len(sizes) != len(entries):
            raise ValueError("a name occurs twice in it")
        pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it holds no data.pkl")
        data = archive.read(pickles[0])
    reader = _Reader(io.BytesIO(data), len(data))
    check_tree(reader.load(), len(data))
    for key, needed in reader.storages.items():
        if sizes.get(f"data/{key}", -1) < needed:
            raise ValueError(f"tensor {key} is larger than what the file holds of it")


def _check_stream(file: BinaryIO, size: int) -> None:
    reader = _Reader(file, size)
    for _ in range(_BEFORE):
        check_tree(reader.load(), size)
    needed = sum(reader.storages.values())
    if needed > size:
        raise ValueError(f"its tensors need {needed:,} bytes, and it has {size:,}")


class _Tensor(StandIn):
    """A tensor, of which only the storage is looked at."""


class _Storage(StandIn):
    """A name such as torch.FloatStorage."""

    def __init__(self, width: int) -> None:
        self.width = width


class _Reader(PlainUnpickler):
    """Attributes: storages: bytes that each storage needs, by its key."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(file, size)
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _Storage(_BYTES[name.removesuffix("Storage")])
        if (module, name) == ("collections", "OrderedDict"):
            return Call(name, self._ordered)
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):  # the first until 0.3
            return Call(name, self._tensor)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return Call(name, self._parameter)
        raise Refused(f"GLOBAL {module}.{name}")

    def persistent_load(self, identity: Any) -> Any:
        """("storage", kind, key, device, numbers), and before 1.6 what part of another storage it is."""
        kind, storage, key, device, count = identity[:5]
        if kind not in ("storage", b"storage") or not isinstance(storage, _Storage) or not isinstance(key, str):
            raise Refused("an object outside the file")
        if not isinstance(count, int) or not 0 <= count < _MOST_NUMBERS:
            raise Refused(f"a storage of {count!r:.60} numbers")
        self.storages[key] = max(self.storages.get(key, 0), count * storage.width)
        return _Tensor()

    def load_build(self) -> None:
        """A state dict has the versions of its modules as an attribute."""
        state, value = self.stack[-1], self.stack[-2]
        if not isinstance(value, OrderedDict):
            super().load_build()
        elif isinstance(state, dict) and state.keys() == {"_metadata"}:
            check_tree(self.stack.pop(), self.size)
        else:
            raise Refused("attributes of a dictionary")

    dispatch = PlainUnpickler.dispatch | {pickle.BUILD[0]: load_build}

    def _ordered(self, pairs: Any = (), *more: Any) -> OrderedDict:
        """Empty, to be filled later; Python 2 gives its pairs at once, each as a list."""
        if more or not isinstance(pairs, (list, tuple)) or not all(_is_pair(pair) for pair in pairs):
            raise Refused("a dictionary made of other than pairs of a text and a value")
        self.pay(_ENTRY * len(pairs))
        return OrderedDict(pairs)

    def _tensor(self, storage: Any, *about: Any) -> _Tensor:
        if not isinstance(storage, _Tensor):
            raise Refused("a tensor without a storage")
        return _Tensor()

    def _parameter(self, tensor: Any, *about: Any) -> Any:
        return tensor


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], str)

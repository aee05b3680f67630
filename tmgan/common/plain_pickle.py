"""Read a pickle as data: a pickle is a program, and this machine has none of the instructions that could do harm.

It is Python's own unpickler in Python, with fewer opcodes. The one in C reserves whatever a file asks for (five bytes
ask for 64 GB of memo), and hashes tuples that hold themselves 2**40 times over, which not even Ctrl-C ends. Here
nothing is called but what a subclass hands out, keys of dictionaries are plain, and what is copied is paid for in bytes
of the file, of which each pays once. So memory is in proportion to the file.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, BinaryIO

_OPCODES = (
    "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES "
    "BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS "
    "GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID"
).split()
_KEYS = (str, int, bytes, type(None))
_LARGEST_KEY = 2**60  # larger ones can be chosen to have one hash, and a dictionary of those takes hours
_SHARED = 8  # times its size that a file may be as a tree, with every shared part written out; a few words repeat


_Unpickler: Any = pickle._Unpickler  # whose stack no type stubs describe


class Refused(Exception):
    """What a pickle asks for that is no plain data."""


class Call:
    """What a pickle may call. It has no attributes that a pickle could set."""

    __slots__ = ("_function", "name")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self._function = name, function

    def __call__(self, arguments: Any) -> Any:
        if type(arguments) is not tuple:
            raise Refused(f"{self.name} with arguments that are none")
        return self._function(*arguments)


class StandIn:
    """Stands in for an object whose state comes later. Subclasses take it in `set_state`."""

    def set_state(self, state: Any) -> None:
        raise Refused(f"a state of {type(self).__name__.strip('_').lower()}")


class PlainUnpickler(_Unpickler):
    """Reads one pickle from a file of `size` bytes; `load` once, then again for a pickle that follows it.

    A subclass says in `find_class` what each name stands for (a Call, or something that cannot be changed), and in
    `persistent_load` what a persistent id does.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(file, encoding="latin1")
        self.size = self._left = size

    def find_class(self, module: str, name: str) -> Any:
        raise Refused(f"{module}.{name}")

    def persistent_load(self, identity: Any) -> Any:
        raise Refused("an object outside the file")

    def pay(self, size: int) -> None:
        """Take `size` bytes of the file for a copy of as many. Refused when more is copied than the file holds."""
        self._left -= size
        if self._left < 0:
            raise Refused("more copies than it holds data")

    def load_append(self) -> None:
        value = self.stack.pop()
        _require(self.stack[-1], list).append(value)

    def load_appends(self) -> None:
        items = self.pop_mark()
        _require(self.stack[-1], list).extend(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _set(self.stack[-1], items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        _set(self.stack[-1], items)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _require(self.stack[-1], Call)(arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        _require(self.stack[-1], StandIn).set_state(state)

    def load_bytearray8(self) -> None:
        """As bytes; Python's reserves as many as the file says before it looks whether they are there."""
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def load_inst(self) -> None:
        module, name = (self.readline()[:-1].decode("ascii", "backslashreplace") for _ in range(2))
        raise Refused(f"{module}.{name}")

    def load_missing(self) -> None:
        raise Refused("an opcode that no plain data need")

    def load_unknown(self) -> None:
        raise pickle.UnpicklingError("it holds what is no opcode")

    dispatch = dict.fromkeys(range(256), load_unknown) | dict.fromkeys(_Unpickler.dispatch, load_missing)
    dispatch[pickle.PERSID[0]] = load_unknown  # no writer of today uses it, and archives begin with its letter
    dispatch |= {getattr(pickle, name)[0]: _Unpickler.dispatch[getattr(pickle, name)[0]] for name in _OPCODES}
    dispatch |= {
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.INST[0]: load_inst,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }


def check_tree(value: Any, size: int) -> None:
    """Refuse data that are far larger than their file of `size` bytes once every shared part is written out.

    Whoever reads the data later walks over the tree: 40 lists of two, each holding the one before twice, have 2**40
    leaves. Lists that hold themselves are refused too.
    """
    sizes: dict[int, int] = {}
    most = _SHARED * size + 1000
    if _tree(value, sizes) > most:
        raise Refused("the same parts again and again")


_BEGUN = 2**62  # a part that is inside itself


def _tree(value: Any, sizes: dict[int, int]) -> int:
    """Numbers, letters and lists of a tree."""
    if isinstance(value, (str, bytes)):
        return len(value) + 1
    if not isinstance(value, (list, tuple, dict)):
        return 1
    known = sizes.get(id(value))
    if known is not None:
        return known
    sizes[id(value)] = _BEGUN
    parts = value if not isinstance(value, dict) else [*value, *value.values()]
    total = sizes[id(value)] = 1 + sum([_tree(part, sizes) for part in parts])
    return total


def _require(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise Refused(f"an opcode for a {kind.__name__} on a {type(value).__name__}")
    return value


def _set(target: Any, items: list[Any]) -> None:
    """Put keys and values, one after another, into a dictionary."""
    _require(target, dict)
    for place in range(0, len(items), 2):
        key = items[place]
        if not isinstance(key, _KEYS) or (isinstance(key, int) and not -_LARGEST_KEY < key < _LARGEST_KEY):
            raise Refused(f"a key of type {type(key).__name__}{' and this size' * isinstance(key, int)}")
        target[key] = items[place + 1]

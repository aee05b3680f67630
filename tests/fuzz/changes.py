"""Changes to valid files, as strategies of hypothesis: bytes, JSON values, and programs of pickle's opcodes."""

from __future__ import annotations

import copy
import json
import struct
from typing import Any

from hypothesis import strategies as st

_LENGTHS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**62, 2**64 - 1)
_WORDS = (
    b"\0",
    b"\n",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"..",
    b"/",
    b"../../../../etc/passwd",
    b"\x1b[2J",
    b"`|*[](",
    b"<script>",
    b"]]>",
    b"&x",
    b"*x",
    b"<<: ",
    b"1e400",
    b"NaN",
    b"-",
    b"9" * 30,
    b"\xed\xa0\x80",
    b"[" * 60,
)


@st.composite
def changed_bytes(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One of the seeds with one to six changes: flips, cuts, splices, lengths blown up, words put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.integers(0, 6))
        if kind == 0 and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == 1 and data:
            data[place] = draw(st.integers(0, 255))
        elif kind == 2:
            length = draw(st.sampled_from(_LENGTHS))
            form = draw(st.sampled_from(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")))
            width = struct.calcsize(form)
            data[place : place + width] = struct.pack(form, length % 256**width)
        elif kind == 3:
            data[place:place] = draw(st.sampled_from(_WORDS))
        elif kind == 4:
            del data[place : place + draw(st.sampled_from((1, 4, 16, 10_000)))]
        elif kind == 5:
            other = draw(st.sampled_from(seeds))
            start = draw(st.integers(0, max(0, len(other) - 1)))
            data[place:place] = other[start : start + draw(st.sampled_from((1, 8, 64, 1000)))]
        else:
            data[place:place] = data[place : place + 40] * draw(st.sampled_from((1, 10, 200)))
    return bytes(data)


_HOSTILE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    -(2**70),
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    0.5,
    "",
    "0",
    "../x",
    "/etc/passwd",
    "a/../../x",
    "\0",
    "\x1b[31m",
    "\ud800",
    "<script>alert(1)</script>",
    "](j:x) `|",
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [1] * 50,
    {"a": {"a": {"a": []}}},
    "NaN",
    "\u202e",
    "é",
    "1" * 5000,
)
_TEXTS = st.text(max_size=12)
_VALUES = st.sampled_from(_HOSTILE) | _TEXTS | st.integers(-(2**66), 2**66) | st.floats()


@st.composite
def changed_json(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A JSON document, or a line of a .jsonl, with one to four values, keys or items changed, or nested deeply."""
    if draw(st.integers(0, 30)) == 0:
        return b"[" * 100_000
    seed = draw(st.sampled_from(seeds))
    try:
        document, before, after = json.loads(seed), b"", b""
    except ValueError:
        lines = seed.splitlines(keepends=True)
        place = draw(st.integers(0, len(lines) - 1))
        document, before, after = (
            json.loads(lines[place]),
            b"".join(lines[:place]),
            b"\n" + b"".join(lines[place + 1 :]),
        )
    for _ in range(draw(st.integers(1, 4))):
        document = _change(draw, document)
    return before + json.dumps(document).encode() + after


def _change(draw: st.DrawFn, value: Any) -> Any:
    """The value with something in it changed."""
    if not isinstance(value, (dict, list)) or not value or draw(st.integers(0, 9)) == 0:
        return copy.deepcopy(draw(_VALUES))
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw(st.sampled_from(keys))
    kind = draw(st.integers(0, 11))
    if kind == 0:
        del value[key]
    elif kind == 1 and isinstance(value, dict):
        value[draw(_TEXTS)] = value.pop(key)
    elif kind == 2 and isinstance(value, list):
        value.insert(key, copy.deepcopy(value[key]))
    elif kind == 3:
        value[key] = [value[key]]
    else:
        value[key] = _change(draw, value[key])
    return value


_GLOBALS = (
    b"c__builtin__\neval\n",
    b"cposix\nsystem\n",
    b"c__builtin__\nbytes\n",
    b"c__builtin__\nbytearray\n",
    b"cnumpy\ndtype\n",
    b"ccollections\nOrderedDict\n",
    b"c_codecs\nencode\n",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy.core.multiarray\nscalar\n",
    b"cnumpy\nndarray\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"ctorch\nTensor\n",
    b"cbuiltins\nset\n",
    b"ctorch\nSize\n",
    b"c__builtin__\nint\n",
)
_PLAIN = (
    b"K\x01",
    b"K\x00",
    b"J\xff\xff\xff\x7f",
    b"M\x00\x01",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"N",
    b"\x88",
    b"U\x02i8",
    b"U\x06latin1",
    b"X\x04\0\0\0bird",
    b"C\x03abc",
    b"G?\xf0\0\0\0\0\0\0",
    b"]",
    b"}",
    b")",
    b"(",
    b"U\x00",
    b"I99999999999999999999\n",
    b"F1e400\n",
    b"V\\ud800\n",
    b"S'../x'\n",
)
_BUILDERS = (
    b"\x85",
    b"\x86",
    b"\x87",
    b"t",
    b"l",
    b"d",
    b"a",
    b"e",
    b"s",
    b"u",
    b"R",
    b"b",
    b"\x81",
    b"o",
    b"0",
    b"1",
    b"2",
    b"Q",
)
_STORES = tuple(b"%c%c" % (code, slot) for code in b"qh" for slot in range(4)) + (
    b"\x94",
    b"r\xff\xff\xff\x7f",
    b"p99999999\n",
)


@st.composite
def changed_pickle(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A program of opcodes, some of them a few times over; or a seed whose opcodes are changed, as bytes."""
    if draw(st.booleans()):
        return draw(changed_bytes(seeds))
    parts = draw(
        st.lists(
            st.sampled_from(_PLAIN) | st.sampled_from(_BUILDERS) | st.sampled_from(_STORES) | st.sampled_from(_GLOBALS),
            max_size=40,
        )
    )
    repeat = draw(st.sampled_from((1, 1, 1, 40)))
    program = b"\x80\x02" + b"".join(parts) * repeat
    seed = draw(st.sampled_from(seeds))
    if draw(st.booleans()) and seed.endswith(b"."):
        program = seed[:-1] + program[2:]  # with the seed's value, and its memo
    return program + b"."


def changes(form: str, seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """The strategy for a form of Target."""
    if form == "json":
        return changed_json(seeds) | changed_bytes(seeds)
    return changed_pickle(seeds) if form == "pickle" else changed_bytes(seeds)

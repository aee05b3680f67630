"""Read the lines of a text file as people have them: any of three line ends, UTF-8 or UTF-16, some bytes damaged."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import NamedTuple

# Longer marks first: that of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
DAMAGE = "it holds bytes that are not text in its encoding (UTF-8, unless a byte order mark says otherwise)"


class Line(NamedTuple):
    """One line.

    Attributes:
        number: from 1.
        text: without its line end; bytes that are not text in the file's encoding are U+FFFD.
        damaged: whether there are such bytes.
    """

    number: int
    text: str
    damaged: bool


def read_lines(path: Path) -> list[Line]:
    """All lines of a file, empty ones too, but not the empty piece after the last line end.

    A byte order mark says what the encoding is; without one it is UTF-8.
    """
    text, escapes = _decode(path.read_bytes())
    end = "\n" if "\n" in text or "\r" not in text else "\r"  # \r alone: as Macs once wrote, and some spreadsheets do
    pieces = text.split(end)
    if not pieces[-1].strip():
        pieces.pop()
    lines = []
    for number, piece in enumerate(pieces, 1):
        damaged = bool(escapes) and not escapes.isdisjoint(piece)
        lines.append(Line(number, _show(piece.removesuffix("\r")) if damaged else piece.removesuffix("\r"), damaged))
    return lines


def read_text(path: Path) -> str:
    """The whole file as text. ValueError when some of its bytes are none."""
    text, escapes = _decode(path.read_bytes())
    if escapes:
        raise ValueError(DAMAGE)
    return text


_ESCAPES = frozenset(map(chr, range(0xDC80, 0xDD00)))


def _decode(data: bytes) -> tuple[str, frozenset[str]]:
    """The text, and the characters that stand in it for bytes that are no text; none where all of them are.

    In UTF-8 those are surrogates: U+FFFD may have been in the file already (published captions are full of it).
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    data = data[len(mark) :]
    try:
        return data.decode(encoding), frozenset()
    except UnicodeDecodeError:
        if encoding == "utf-8":
            return data.decode(encoding, "surrogateescape"), _ESCAPES
        return data.decode(encoding, "replace"), frozenset("\ufffd")


def _show(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

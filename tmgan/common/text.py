"""Numbers and lists for people to read: durations, bytes, significant digits, the first of many lines."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any


def duration(seconds: float) -> str:
    """1h42m, 3m05s or 12s."""
    seconds = int(seconds + 0.5)
    if seconds >= 3600:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 60}m{seconds % 60:02d}s" if seconds >= 60 else f"{seconds}s"


def memory(size: float) -> str:
    """1.50 GiB or 12 MiB."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.0f} MiB"


def file_size(size: int) -> str:
    """109 MB or 6 kB, as files on the web are measured."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def number(value: float | None) -> str:
    """About three significant digits, for a page; "-" for None and NaN, where there is no number."""
    if value is None or math.isnan(value):
        return "-"
    size = abs(value)
    if size >= 10:
        return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}"
    return f"{value:.3f}" if size >= 1e-3 or not value else f"{value:.1e}"


def console_number(value: float) -> str:
    """A measure in a column of the console: "-" for an undefined one, "exact" for an infinite one."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "exact"
    return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}"


def signed(value: float) -> str:
    """A difference of two measures, three significant digits and its sign; "-" for NaN."""
    if math.isnan(value):
        return "-"
    return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+.3g}"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells as lines of text: the first and the last column aligned left, the others right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:-1], widths[1:-1], strict=True)), row[-1]]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def edited_photos(count: int, split: str, captions: str, seed: int) -> str:
    """What an evaluation was measured on, by the settings of its protocol, for pages and the console."""
    text = "its own caption, as in the paper" if captions == "own" else "a caption of another photo"
    return f"{count:,} photo{'s' * (count != 1)} of the {split} split, centre crops, each edited by {text}; seed {seed}"


def first_lines(problems: Sequence[str], limit: int = 20) -> str:
    """At most `limit` of the problems, one per indented line, and how many more there are."""
    lines = [f"  {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more")
    return "\n".join(lines)


def shown(value: Any, most: int = 60) -> str:
    """A value from a file as messages show it: repr(), cut to `most` characters.

    Of nested lists only the beginning is written: all of it may take more memory than there is.
    """
    try:
        text = _SHORT.repr(value)
    except ValueError:  # a number of thousands of digits
        text = f"a {type(value).__name__}"
    return text[:most]


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 200, 200, 200
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_CONTROL |= {code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def printable(text: str) -> str:
    """A text without what steers a terminal, which captions and names of files may hold: such characters are escaped.

    Line ends and tabs stay. Left out too is what turns the direction of writing, so that a line reads as it is.
    """
    return text.translate(_CONTROL)

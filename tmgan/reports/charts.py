"""Small charts as SVG text, without a plotting library: curves, and a list of numbers with their intervals.

Inside a page the colours are the page's; in a file of their own, greys that are legible on white and on black.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from statistics import fmean as mean

from tmgan.common.text import printable

_W, _H = 340, 190  # of a curve, in the SVG's own units
_INK = "fill:var(--ink,#777)"
_SOFT = "fill:var(--soft,#888)"
_GRID = "stroke:var(--line,#8885);stroke-width:1"
_FONT = 'font-family="system-ui,DejaVu Sans,sans-serif" font-size="11"'
_POINTS = 400  # of a curve; more are averaged
_LEGEND = 15  # height of a line of it
# Of the lines of a chart: legible on white and on black, and told apart without red and green.
_COLOURS = ("var(--mark,#4a8fd0)", "#d9822b", "#2a9d8f", "#b05cc6", "#c9a227", "#8a8f98")
MOST = len(_COLOURS)  # lines of a chart
Series = tuple[Sequence[float], Sequence[float | None]]  # x and y, equally many


def curve(title: str, x: Sequence[float], y: Sequence[float | None], x_title: str = "images") -> str:
    """One line over the images seen. None leaves a gap."""
    return curves(title, {"": (x, y)}, x_title)


def curves(title: str, series: Mapping[str, Series], x_title: str = "images") -> str:
    """Lines over the images seen, with a legend if there are several. None leaves a gap.

    Args:
        series: (x, y) by name, at most as many as there are colours (_COLOURS).
    """
    left, right, top, bottom = 46, 18, 24, 34
    thin = {name: list(zip(*_thin(x, y), strict=True)) for name, (x, y) in series.items()}
    lines = {name: [(a, b) for a, b in points if b is not None] for name, points in thin.items()}
    data = [point for points in lines.values() for point in points]
    if not data:
        words = _text(left, 16, title, weight="600") + _text(left, 60, "no finite value", style=_SOFT)
        return _svg(_W, _H, title, words)
    ticks_x, ticks_y = (
        nice_ticks(min(0.0, min(a for a, _ in data)), max(a for a, _ in data), 4),
        nice_ticks(min(b for _, b in data), max(b for _, b in data), 4),
    )

    def place(a: float, b: float) -> tuple[float, float]:
        return (
            left + (a - ticks_x[0]) / (ticks_x[-1] - ticks_x[0]) * (_W - left - right),
            _H - bottom - (b - ticks_y[0]) / (ticks_y[-1] - ticks_y[0]) * (_H - top - bottom),
        )

    parts = [_text(left, 15, title, weight="600")]
    for tick in ticks_y:
        height = place(ticks_x[0], tick)[1]
        parts.append(f'<line x1="{left}" x2="{_W - right}" y1="{height:.1f}" y2="{height:.1f}" style="{_GRID}"/>')
        parts.append(_text(left - 5, height + 4, short(tick), "end", _SOFT))
    for tick in ticks_x:
        parts.append(_text(place(tick, ticks_y[0])[0], _H - bottom + 14, short(tick), "middle", _SOFT))
    parts.append(_text(_W - right, _H - 4, x_title, "end", _SOFT))
    for colour, points in zip(_COLOURS, lines.values(), strict=False):
        places = [place(*point) for point in points]
        if len(places) == 1:
            parts.append(f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="3" style="fill:{colour}"/>')
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(
            f'<polyline points="{path}" style="fill:none;stroke:{colour};stroke-width:2;stroke-linejoin:round"/>'
        )
    names = list(series) if len(series) > 1 else []
    for k, (colour, name) in enumerate(zip(_COLOURS, names, strict=False)):
        height = _H + _LEGEND * k + 6
        parts.append(
            f'<line x1="{left}" x2="{left + 16}" y1="{height}" y2="{height}" style="stroke:{colour};stroke-width:3"/>'
        )
        parts.append(_text(left + 22, height + 4, name if lines[name] else f"{name}: none"))
    return _svg(_W, _H + _LEGEND * len(names), title, "".join(parts))


def intervals(title: str, rows: Sequence[tuple[str, float, float, float, bool]], note: str = "") -> str:
    """Numbers as dots with their intervals around a line at 0.

    Args:
        rows: (name, value, low, high, sure); the dot is filled where sure.
        note: a line below the axis.
    """
    line, top, left, right = 22, 30, 190, 18
    width, height = 450, top + line * len(rows) + 34
    ticks = nice_ticks(min([0.0, *(low for _, _, low, _, _ in rows)]), max([0.0, *(high for *_, high, _ in rows)]), 4)

    def place(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (width - left - right)

    base = top + line * len(rows)
    parts = [_text(6, 16, title, weight="600")]
    for tick in ticks:
        at = place(tick)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top - 4}" y2="{base}" style="{_GRID}"/>')
        parts.append(_text(at, base + 14, short(tick), "middle", _SOFT))
    parts.append(
        f'<line x1="{place(0):.1f}" x2="{place(0):.1f}" y1="{top - 4}" y2="{base}" '
        'style="stroke:var(--soft,#888);stroke-width:1.5"/>'
    )
    for k, (name, value, low, high, sure) in enumerate(rows):
        middle = top + line * k + line / 2
        parts.append(_text(left - 10, middle + 4, name, "end", _INK))
        parts.append(
            f'<line x1="{place(low):.1f}" x2="{place(high):.1f}" y1="{middle}" y2="{middle}" '
            'style="stroke:var(--mark,#4a8fd0);stroke-width:2"/>'
        )
        inside = "var(--mark,#4a8fd0)" if sure else "var(--panel,#fff)"
        parts.append(
            f'<circle cx="{place(value):.1f}" cy="{middle}" r="4.5" '
            f'style="fill:{inside};stroke:var(--mark,#4a8fd0);stroke-width:2"/>'
        )
    parts.append(_text(width - right, height - 4, note, "end", _SOFT))
    return _svg(width, height, title, "".join(parts))


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers that enclose low and high."""
    if high - low < 1e-12 * max(1.0, abs(low), abs(high)):
        low, high = low - max(abs(low) * 0.1, 1e-3), high + max(abs(high) * 0.1, 1e-3)
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def short(value: float) -> str:
    """A tick's label: 20k, 1.5M, 0.25."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{round(value, 10):.4g}"


def _thin(x: Sequence[float], y: Sequence[float | None]) -> tuple[list[float], list[float | None]]:
    """At most _POINTS points, each the mean of its neighbours in both directions: a straight line stays where it is."""
    group = -(-len(x) // _POINTS)
    if group <= 1:
        return list(x), list(y)
    thin_x: list[float] = []
    thin_y: list[float | None] = []
    for start in range(0, len(x), group):
        near = list(zip(x[start : start + group], y[start : start + group], strict=True))
        points = [(a, b) for a, b in near if b is not None]
        thin_x.append(mean([a for a, _ in points or near]))
        thin_y.append(mean([b for _, b in points]) if points else None)
    return thin_x, thin_y


def _text(x: float, y: float, text: str, anchor: str = "start", style: str = _INK, weight: str = "400") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" style="{style}" {_FONT}>'
        f"{html.escape(printable(text))}</text>"
    )


def _svg(width: int, height: int, title: str, inside: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(printable(title), quote=True)}">{inside}</svg>'
    )

"""Numbers of the results as cells of tables. results.py says what null and "inf" mean there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tmgan.common.text import number
from tmgan.paper.variants import BASE
from tmgan.reports.document import Cell

Json = Mapping[str, Any]


def interval_of(one: Json) -> tuple[float, float, float]:
    """Value, low and high of a change; NaN where there is none, or it is undefined."""
    value, low, high = (math.nan if one.get(key) is None else float(one[key]) for key in ("value", "low", "high"))
    return value, low, high


def change_cell(one: Json) -> Cell:
    """A change against the baseline, with its interval."""

    def with_sign(value: float) -> str:
        return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+.3g}"

    value, low, high = interval_of(one)
    if math.isnan(value):
        return Cell("-")
    return Cell(f"{with_sign(value)} **{one['moves'] or '='}**", f"{with_sign(low)} to {with_sign(high)}")


def improvement(measure: Json | None, base: Json, variant: str) -> str:
    """The share of the baseline's score that is gone; "" for the baseline itself."""
    if variant == BASE:
        return ""
    before, after = base["value"], measure["value"] if measure else None
    return f"{1 - float(after) / float(before):+.1%}" if before and after is not None else "-"


def measure_cell(measure: Json | None) -> Cell:
    """A run's number, with its interval if it has one; "-" where it was not measured or is undefined."""
    if measure is None or measure["value"] is None:
        return Cell("-")
    interval = f"{_number(measure['low'])} to {_number(measure['high'])}" if measure["low"] is not None else ""
    return Cell(_number(measure["value"]), interval)


def _number(value: float | str) -> str:
    """As results.py writes it: "inf" for an infinite one."""
    return number(float(value))


def paper_cell(table: Mapping[str, float], variant: str) -> str:
    """The paper's number for a row."""
    return f"{table[variant]:.3f}" if variant in table else "-"

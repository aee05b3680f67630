"""Numbers of the results as cells of tables, and in words. results.py says what null and "inf" mean there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from tmgan.common.text import number, signed
from tmgan.paper.variants import BASE
from tmgan.reports.document import Cell

Json = Mapping[str, Any]


def interval_of(one: Json) -> tuple[float, float, float]:
    """Value, low and high of a change; NaN where there is none, or it is undefined."""
    value, low, high = (math.nan if one.get(key) is None else float(one[key]) for key in ("value", "low", "high"))
    return value, low, high


def change_cell(one: Json) -> Cell:
    """A change against the baseline, with its interval."""
    value, low, high = interval_of(one)
    if math.isnan(value):
        return Cell("-")
    return Cell(f"{signed(value)} **{one['moves'] or '='}**", f"{signed(low)} to {signed(high)}")


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


def label(about: Json, variant: str) -> str:
    """What a row is called."""
    return about["variants"][variant]["label"]


def rows_of(about: Json, table: int) -> list[str]:
    """The variants of a table that have been measured."""
    return [name for name, row in about["variants"].items() if table in row["tables"] and name in about["runs"]]


def interval_words(about: Json) -> str:
    """What the numbers of a table are, and their intervals."""
    each = "mean over the seeds and its" if len(about["setup"]["seeds"]) > 1 else "its"
    return f"Each number: {each} 95% interval, by bootstrap over n = {about['setup']['n']} photos."


def sentence(about: Json, title: str, name: str, where: Literal["changes", "ablation"]) -> str:
    """Which variants move a measure, and which do not.

    Args:
        title, name: of the measure.
    """
    ways: dict[str, list[str]] = {"up": [], "down": [], "": []}
    for variant, each in about[where].items():
        ways[each.get(name, {"moves": ""})["moves"]].append(label(about, variant))
    parts = [
        f"{words} {', '.join(ways[way])}"
        for way, words in (("up", "up with"), ("down", "down with"), ("", "no change can be told with"))
        if ways[way]
    ]
    return f"**{title[0].upper()}{title[1:]}**: {'; '.join(parts)}."

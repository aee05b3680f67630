"""The numbers of the steps: means of a tick, steps that were skipped, and a flight record.

A step is bad when the norm of a gradient is not finite; guard.py has then kept the weights. A step's numbers stay on
the device, in a table of 100 rows, and are fetched for a status line, for a save, and when the table is full. A tick
that a stop cut short is averaged over what came after resuming.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tmgan.common.files import write_json

FILE = "flight.json"  # in a run's folder
FORMAT = 1
STREAK = 10  # bad steps in a row that are no accident any more
BEFORE = "flight-before.json"  # that of the run before it went on
_LENGTH = 100  # steps of a flight record


class Tick(NamedTuple):
    """What happened since the last tick.

    Attributes:
        means: of every number, over those of its values that are finite; NaN where none is.
        bad: how many steps had gradients that are not finite.
    """

    means: dict[str, float]
    bad: int


class Recorder:
    """`add` takes a step's numbers and never waits for the device; the others do.

    Attributes:
        steps: how many were taken.
        full: whether `add` takes no more before the numbers were looked at: `streak` does.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._table: Tensor | None = None
        self._steps: list[int] = []  # of the rows that are in the table
        self._flight: deque[dict[str, float]] = deque(maxlen=_LENGTH)
        self._values: dict[str, list[float]] = {}  # of this tick
        self._bad = self._streak = self.steps = 0

    @property
    def full(self) -> bool:
        return len(self._steps) == _LENGTH

    def add(self, step: int, numbers: Mapping[str, Tensor]) -> None:
        """A step's scalars on the device, the same names in every step; norms of gradients begin with "grad"."""
        assert not self.full, "nobody has looked at the last 100 steps"
        row = torch.stack([number.detach() for number in numbers.values()])
        if self._table is None:
            self._names, self._table = list(numbers), row.new_empty(_LENGTH, len(row))
        self._table[len(self._steps)].copy_(row)
        self._steps.append(step)
        self.steps += 1

    def read(self) -> Tick:
        """What happened since the last call."""
        self._fetch()
        means = {name: sum(v) / len(v) if v else math.nan for name, v in self._values.items()}
        tick = Tick(means, self._bad)
        self._values, self._bad = {}, 0
        return tick

    def streak(self) -> int:
        """How many bad steps the last ones were in a row."""
        self._fetch()
        return self._streak

    def rows(self) -> list[dict[str, float]]:
        """The flight record, the oldest step first: `step` and its numbers. Of a streak only the first steps."""
        self._fetch()
        return [dict(row) for row in self._flight]

    def first_bad(self) -> int | None:
        """The step with which the present streak began; without one, the last step. None before the first."""
        rows = self.rows()
        return int(rows[-1]["step"]) - max(min(self._streak, STREAK) - 1, 0) if rows else None

    def _fetch(self) -> None:
        if self._table is None:
            return
        rows = self._table[: len(self._steps)].tolist()
        for step, row in zip(self._steps, rows, strict=True):
            numbers = dict(zip(self._names, row, strict=True))
            bad = any(name.startswith("grad") and not math.isfinite(value) for name, value in numbers.items())
            self._bad += bad
            self._streak = self._streak + 1 if bad else 0
            if self._streak <= STREAK:  # what led to a streak is worth more than its end
                self._flight.append({"step": step, **numbers})
            for name, value in numbers.items():
                self._values.setdefault(name, []).extend([value] if math.isfinite(value) else [])
        self._steps = []


def set_aside(folder: Path) -> None:
    """Keep a flight record of before under another name: a run that goes on may have other learning rates by now."""
    if (folder / FILE).exists():
        os.replace(folder / FILE, folder / BEFORE)


def write_flight(path: Path, recorder: Recorder, batch: int, about: Mapping[str, Any]) -> bool:
    """Write the flight record as JSON. A step's number is, with the run's seed, the key of its plan.

    Args:
        batch: images per step.
        about: what else to note.

    Returns:
        False when no step was taken yet, and nothing is written.
    """
    rows = []
    for row in recorder.rows():
        step = int(row.pop("step"))
        rows.append({"step": step, "images": step * batch, **{name: _plain(value) for name, value in row.items()}})
    if rows:
        write_json(path, {"format": FORMAT, **about, "batch": batch, "rows": rows})
    return bool(rows)


def _plain(value: float) -> float | str:
    """JSON has no other numbers than finite ones."""
    return value if math.isfinite(value) else str(value)

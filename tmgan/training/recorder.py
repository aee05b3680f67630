"""The numbers of the steps, gathered on the device: means of a tick, steps that went bad, and a flight record.

A step is bad when one of its numbers, a loss or the norm of its gradients, is not finite; guard.py has then kept the
weights. A tick that a stop cut short is averaged over what came after resuming.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tmgan.common.files import write_json

FILE = "flight.json"  # in a run's folder
FORMAT = 1
STREAK = 10  # bad steps in a row that are no accident any more
_LENGTH = 100  # steps of a flight record


class Tick(NamedTuple):
    """What happened since the last tick.

    Attributes:
        means: of every number, over the steps that were not bad; empty when there was none.
        bad: steps whose numbers were not all finite.
    """

    means: dict[str, float]
    bad: int


class Recorder:
    """`add` takes a step's numbers and never waits for the device; `read`, `streak` and `rows` do.

    The last 100 steps' numbers stay on the device. At the end of a streak of bad steps no more are taken, so that the
    steps that led to it are kept.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._steps = 0  # taken so far
        self._taken = 0  # since the last tick

    def add(self, step: int, numbers: Mapping[str, Tensor]) -> None:
        """A step's scalars on the device, the same names in every step."""
        row = torch.stack([number.detach() for number in numbers.values()]).double()
        if not self._names:
            self._names = list(numbers)
            self._ring = row.new_full((_LENGTH, 1 + len(row)), -1.0)
            self._sum, self._bad, self._streak = torch.zeros_like(row), row.new_zeros(()), row.new_zeros(())
        diverged = self._streak >= STREAK
        bad = ~torch.isfinite(row).all()
        self._sum += torch.where(bad, 0.0, row)
        self._bad += bad
        place = self._ring[self._steps % _LENGTH]
        place.copy_(torch.where(diverged, place, torch.cat([row.new_full((1,), step), row])))
        self._streak = torch.where(diverged, self._streak, (self._streak + 1) * bad)
        self._steps, self._taken = self._steps + 1, self._taken + 1

    def read(self) -> Tick:
        """What happened since the last call. Waits for the device."""
        if not self._taken:
            return Tick({}, 0)
        *sums, bad = torch.cat([self._sum, self._bad[None]]).tolist()
        good = self._taken - int(bad)
        means = {name: value / good for name, value in zip(self._names, sums, strict=True)} if good else {}
        self._sum.zero_()
        self._bad.zero_()
        self._taken = 0
        return Tick(means, int(bad))

    def streak(self) -> int:
        """How many bad steps the last ones were in a row, STREAK at most. Waits for the device."""
        return int(self._streak) if self._names else 0

    def rows(self) -> list[dict[str, float]]:
        """The flight record, the oldest step first: `step` and its numbers. Waits for the device."""
        rows = [row for row in self._ring.tolist() if row[0] >= 0] if self._names else []
        rows.sort(key=lambda row: row[0])
        return [{"step": int(step), **dict(zip(self._names, numbers, strict=True))} for step, *numbers in rows]


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

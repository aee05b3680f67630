"""Losses gathered on the device and read once per tick: status line, stats.jsonl, TensorBoard.

A tick that a stop cut short is averaged over what came after resuming.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tmgan.common.files import write_text
from tmgan.common.text import duration


class Stats:
    """Running means of a step's losses. `add` never waits for the device; `read` does."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, losses: dict[str, Tensor]) -> None:
        """losses: scalars on the device, the same names in every step."""
        values = torch.stack([v.detach().float() for v in losses.values()])
        if self._sum is None:
            self._names, self._sum = list(losses), torch.zeros_like(values)
        self._sum += values
        self._count += 1

    def finite(self) -> bool:
        """False when a loss since the last read was not. Waits for the device."""
        return self._sum is None or bool(torch.isfinite(self._sum).all())

    def read(self) -> dict[str, float]:
        """Means since the last call. The only place of the loop that waits for the device."""
        if self._sum is None or self._count == 0:
            return {}
        means = (self._sum / self._count).tolist()
        self._sum.zero_()
        self._count = 0
        return dict(zip(self._names, means, strict=True))


class Speed:
    """Images per second since the last tick, and the time left; pauses for pictures and checkpoints do not count."""

    def __init__(self, images: int):
        self._images, self._start = images, time.perf_counter()
        self._rate: float | None = None

    def tick(self, images: int, total: int) -> tuple[float, str]:
        """Images per second, and the time left as text."""
        now = time.perf_counter()
        rate = (images - self._images) / max(now - self._start, 1e-9)
        self._rate = rate if self._rate is None else 0.7 * self._rate + 0.3 * rate
        self._images, self._start = images, now
        return rate, duration((total - images) / max(self._rate, 1e-9))

    def resume(self, images: int) -> None:
        """Restart the clock after a pause."""
        self._images, self._start = images, time.perf_counter()


class JsonLines:
    """An append-only .jsonl file. Opening it for a resumed run drops the rows after `images`, which will come again."""

    def __init__(self, path: Path, images: int):
        self.path = path
        lines = []
        if path.exists():
            for line in path.read_text("utf-8").splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:  # a crash cut the last line
                    continue
                if row["images"] <= images:
                    lines.append(line)
            write_text(path, "".join(line + "\n" for line in lines))

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; a number that is not finite becomes null, which is all that JSON has for it."""
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        with open(self.path, "a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")


class TensorBoard:
    """Scalars for TensorBoard when it is installed (extra `tb`), else nothing."""

    def __init__(self, folder: Path, images: int):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._writer = None
        else:
            # On resuming, hide what comes after the checkpoint: those steps come again.
            self._writer = SummaryWriter(str(folder), purge_step=images + 1 if images else None)

    def write(self, row: dict[str, Any]) -> None:
        if self._writer is None:
            return
        for name, value in row.items():
            if name != "images" and isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, row["images"])
        self._writer.flush()

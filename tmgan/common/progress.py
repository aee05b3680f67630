"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere; and remarks, which are kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

SECONDS_A_LINE = 10.0  # in a log file


class Progress:
    """`say` shows a remark and keeps it in `notes`; inside `bar`, `advance` counts on. Silent unless `visible`."""

    def __init__(self, visible: bool) -> None:
        self.visible = visible
        self.notes: list[str] = []
        from rich.console import Console  # here, so that a machine that only measures steps does not need it

        self._console = Console(stderr=True, highlight=False, quiet=not visible)
        self._bar: RichProgress | None = None

    def say(self, text: str) -> None:
        self.notes.append(text)
        self._print(text)

    @contextlib.contextmanager
    def bar(self, unit: str, total: int, start: int = 0) -> Iterator[None]:
        """Count `unit` (a plural noun) from `start` to `total`."""
        self._unit, self._total, self._start, self._count = unit, total, start, start
        self._begin = self._shown = time.monotonic()
        if self._console.is_terminal and self.visible:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(unit + ", {task.fields[rate]}/s"),
                TimeRemainingColumn(),
            )
            self._bar = RichProgress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(unit, total=total, completed=start, rate="-")
        with self._bar or contextlib.nullcontext():
            yield
        self._bar = None

    def advance(self) -> None:
        self._count += 1
        rate = f"{(self._count - self._start) / max(time.monotonic() - self._begin, 1e-9):.0f}"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._count, rate=rate)
        elif time.monotonic() - self._shown > SECONDS_A_LINE:
            self._shown = time.monotonic()
            self._print(f"{self._count} of {self._total} {self._unit}, {rate}/s")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

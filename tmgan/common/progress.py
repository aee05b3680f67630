"""What a person sees while waiting: a bar with the time left where standard error is a terminal, and remarks.

Inside `quiet()`, `tmgan --quiet`, neither is shown.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tmgan.common.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_quiet = False  # of the process: its threads are quiet too


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, no progress, remarks or status lines are shown. What is returned, raised, warned of or written to a
    run's log.txt is as ever.

    >>> import tmgan
    >>> with tmgan.quiet():
    ...     summary = tmgan.prepare("birds", "packs/birds", image_size=64, workers=1)
    >>> summary.already_prepared
    True
    """
    global _quiet
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before


def say(text: str) -> None:
    """Print a line on standard output, unless inside `quiet()`: there notes and warnings go to standard error."""
    if not _quiet:
        print(printable(text), flush=True)
    elif text.startswith(("NOTE: ", "WARNING: ")):
        print(printable(text), file=sys.stderr, flush=True)


class Progress:
    """`say` shows a remark and keeps it in `notes`; inside `bar`, `advance` counts on. Silent unless `visible`."""

    def __init__(self, visible: bool = True) -> None:
        self.notes: list[str] = []
        from rich.console import Console  # here, so that a machine that only measures steps does not need it

        self._console = Console(stderr=True, highlight=False, quiet=not visible or _quiet)
        self._bar: RichProgress | None = None

    def say(self, text: str) -> None:
        """Show a remark."""
        self.notes.append(text)
        self._console.print(printable(text), markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def bar(self, unit: str, total: int, start: int = 0) -> Iterator[None]:
        """Count `unit` (a plural noun) from `start` to `total`: a bar on a terminal, nothing elsewhere."""
        self._start, self._count, self._begin = start, start, time.monotonic()
        if self._console.is_terminal and not self._console.quiet:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(unit + ", {task.fields[rate]}/s, left"),
                TimeRemainingColumn(),
            )
            # What is printed beside the bar goes above it, but not what goes to a file.
            out, err = sys.stdout.isatty(), sys.stderr.isatty()
            self._bar = RichProgress(
                *columns, console=self._console, transient=True, redirect_stdout=out, redirect_stderr=err
            )
            self._task = self._bar.add_task(unit, total=total, completed=start, rate="-")
        with self._bar or contextlib.nullcontext():
            yield
        self._bar = None

    def advance(self, count: int = 1) -> None:
        """Count on by `count`."""
        self._count += count
        if self._bar is not None:
            rate = (self._count - self._start) / max(time.monotonic() - self._begin, 1e-9)
            self._bar.update(self._task, completed=self._count, rate=f"{rate:.3g}")

"""Ctrl-C and SIGTERM as exceptions, so that what was interrupted is never taken for what was finished."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A signal ended the work before it was done.

    It is a KeyboardInterrupt, so notebooks and scripts treat it as one, and no `except Exception` swallows it.

    Attributes:
        signal: which one.
    """

    def __init__(self, number: int):
        self.signal = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name}")

    @property
    def status(self) -> int:
        """What a process that it ends exits with: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


@contextlib.contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """SIGTERM raises Interrupted here, as Ctrl-C raises KeyboardInterrupt: what is being written is tidied up."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)  # None: not set from Python

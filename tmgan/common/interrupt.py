"""Ctrl-C and SIGTERM as exceptions, so that what was interrupted is never taken for what was finished."""

from __future__ import annotations

import contextlib
import os
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


_came: list[int] = []  # signals in this raise_on_signals()


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise Interrupted here, so that what is being written is tidied up.

    Whatever else becomes of the exception, as in a module that is imported just then, it leaves here as Interrupted.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return

    def stop(number: int, frame: Any) -> None:
        _came.append(number)
        raise Interrupted(number)

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored, as in the background
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
        if _came:
            raise Interrupted(_came[0])
    except BaseException as error:
        if _came and not isinstance(error, KeyboardInterrupt):
            raise Interrupted(_came[0]) from error
        raise
    finally:
        _came.clear()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python


class StopRequest:
    """Ctrl-C and SIGTERM in a training: the first one stops it with everything saved, the second one at once.

    The first raises Interrupted in whatever runs, except inside `deferred()`: there whoever entered it looks at
    `signal`, finishes what must be whole, and leaves. Another thread than the main one cannot be interrupted.

    Attributes:
        signal: name of the signal that came, or None. It is there too if the exception was lost in a callback.
    """

    def __init__(self) -> None:
        if _came:  # while modules were imported, one of which has swallowed it
            raise Interrupted(_came[0])
        self.signal: str | None = None
        self._deferred = False
        self._before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():  # only that one may set handlers
            self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}

    def _handle(self, number: int, frame: Any) -> None:
        if self.signal is not None:
            os.write(2, b"\nStopping at once; the last checkpoint is intact.\n")
            os._exit(128 + number)
        self.signal = signal.Signals(number).name
        what = "finishing this step, then saving" if self._deferred else "stopping"
        os.write(2, f"\n{self.signal}: {what}. Again to stop at once.\n".encode())
        if not self._deferred:
            raise Interrupted(number)

    def check(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.signal is not None:
            raise Interrupted(signal.Signals[self.signal])

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal is only noted down."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside `deferred()`: a signal, also one that has come already, raises Interrupted after all."""
        self._deferred = False
        try:
            self.check()
            yield
        finally:
            self._deferred = True

    def restore(self) -> None:
        """Give the signals back to whoever handled them before."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not set from Python

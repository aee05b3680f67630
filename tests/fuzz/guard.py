"""What must hold while a reader reads a file from anywhere, and a verdict on one case.

Only errors that the command line calls refusals (tmgan.common.errors); no code run, no process, no connection, no write
outside the case's folder; memory in proportion to the file; no hang.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import gc
import os
import signal
import sys
import sysconfig
import time
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from tmgan.common.errors import REFUSED, exit_status
from tmgan.config import configfile

SECONDS = 10  # of processor time that a case may take; most take a millisecond
MEGABYTE = 2**20
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events whose first arguments are paths that are changed: how many of them are paths.
_CHANGES = {
    "os.rename": 2,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.mkdir": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "os.utime": 1,
    "shutil.rmtree": 1,
    "shutil.move": 2,
    "os.setxattr": 1,
}
_NEVER = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
    "os.spawn",
    "os.startfile",
    "os.kill",
    "os.putenv",
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "socket.sendto",
    "urllib.Request",
    "code.__new__",
)
_OURS = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")} | {str(Path(__file__).parents[2])}
)


_MAKERS = {collections.__file__, dataclasses.__file__, typing.__file__}  # which run texts of their own


class Hang(BaseException):
    """A case that takes too long; no `except Exception` of a reader stops it."""


@dataclass(frozen=True)
class Limit:
    """How much memory a reader may take: `multiple` bytes for each of the file, and `constant` bytes besides."""

    multiple: int
    constant: int

    def of(self, size: int) -> int:
        return self.multiple * size + self.constant


@dataclass
class Verdict:
    """What became of a case.

    Attributes:
        outcome: "read", or the name of the error that refused it.
        failures: what must not happen and did; none: it holds.
        memory: bytes that the peak of resident memory grew by.
        seconds: of processor time.
    """

    outcome: str
    failures: list[str]
    memory: int
    seconds: float


class Watch:
    """Listens to Python's audit events for good (hooks cannot be taken off), and minds them inside `over`."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    @contextmanager
    def over(self, folder: Path) -> Iterator[list[str]]:
        """Collect what is done that must not be: changes outside of `folder`, processes, connections, foreign code."""
        self.seen, self._folder = [], os.path.realpath(folder)
        try:
            yield self.seen
        finally:
            self._folder = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._folder is None:
            return
        problem = ""
        if event == "open":
            path, mode, flags = arguments
            if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & _WRITES):
                problem = self._outside(event, path)
        elif event in _CHANGES:
            problem = next(filter(None, (self._outside(event, path) for path in arguments[: _CHANGES[event]])), "")
        elif event in _NEVER:
            problem = f"{event}{arguments!r:.200}"
        elif event in ("exec", "compile"):
            name = getattr(arguments[0], "co_filename", "") if event == "exec" else arguments[1]
            name = name if isinstance(name, str) else os.fsdecode(name or b"")
            problem = "" if _is_import(name, sys._getframe(1)) else f"{event} of {name!r}"
        if problem:
            self.seen.append(problem)
            raise PermissionError(f"not while a file from anywhere is read: {problem}")

    def _outside(self, event: str, path: Any) -> str:
        if isinstance(path, int) or self._folder is None:
            return ""
        real = os.path.realpath(os.fsdecode(path))
        return "" if real.startswith(self._folder + os.sep) or real == os.devnull else f"{event} of {real}"


def _is_import(name: str, frame: FrameType) -> bool:
    """Whether code named `name` is made or run by an import, or for a class or a type of ours; `frame` asks for it.

    The name alone says nothing: whoever makes code names it.
    """
    asks = frame.f_code.co_filename
    if asks.startswith("<frozen importlib"):
        return name.startswith((*_OURS, "<frozen "))
    if asks == ast.__file__:
        return True  # a tree of syntax, as of numpy's headers: what runs it asks again
    if asks not in _MAKERS:
        return False
    outer: FrameType | None = frame
    while outer is not None and outer.f_code.co_filename == asks:
        outer = outer.f_back
    if outer is None or not outer.f_code.co_filename.startswith(_OURS):
        return False
    if asks == typing.__file__:
        return outer.f_code.co_filename == configfile.__file__
    return outer.f_code.co_name == "<module>"  # a class of a module that is imported late


_watch: Watch | None = None


def judge(read: Callable[[], Any], folder: Path, size: int, limit: Limit) -> Verdict:
    """Call `read` and say what became of it.

    Args:
        folder: the only place where something may be written.
        size: bytes of the file that is read.
    """
    global _watch
    _watch = _watch or Watch()
    outcome, failures = "read", []
    resident, watches_memory = _begin_peak()
    start = time.process_time()
    try:
        with _no_longer_than(SECONDS), _watch.over(folder) as seen:
            read()
    except Hang:
        failures.append(f"takes more than {SECONDS} s of processor time")
        outcome = "hang"
    except Exception as error:
        outcome = type(error).__name__
        if exit_status(error) != REFUSED:
            failures.append(f"{outcome}: {_where(error)}{error}"[:600])
        elif not str(error) and not isinstance(error, MemoryError):
            failures.append(f"{outcome} without a message{_where(error)}")
    failures += seen
    seconds = time.process_time() - start
    memory = max(0, _peak() - resident) if watches_memory else 0
    if memory > limit.of(size):
        failures.append(
            f"takes {memory / MEGABYTE:,.0f} MB of memory for {size:,} bytes, where {limit.multiple} times as much and "
            f"{limit.constant / MEGABYTE:,.0f} MB are allowed"
        )
    return Verdict(outcome, failures, memory, seconds)


def _where(error: BaseException) -> str:
    """File and line of tmgan's that an error came from, as far as there is one."""
    place, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if f"{os.sep}tmgan{os.sep}" in name:
            place = f"{name.rsplit(f'{os.sep}tmgan{os.sep}', 1)[1]}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return place


@contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    """Raise Hang after so much processor time, as soon as Python has a say."""

    def stop(number: int, frame: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _begin_peak() -> tuple[int, bool]:
    """Resident memory, from which its peak is counted from now on; False where the kernel does not say."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return _status("VmRSS"), True
    except OSError:
        return 0, False


def _peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    raise AssertionError(name)


def settle() -> None:
    """Collect garbage before a series of cases: what earlier ones left is not theirs."""
    gc.collect()

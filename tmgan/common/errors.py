"""How a command ends: its exit status, and the sentence about it."""

from __future__ import annotations

import errno
import signal

from tmgan.common.interrupt import Interrupted
from tmgan.common.text import printable

DONE, OUR_FAULT, REFUSED, DIVERGED = 0, 1, 2, 3
STATUSES = """\
Exit status: 0 done; 1 a fault of tmgan, whose traceback is shown, and saved in the run folder if there is one;
2 refused, with what to do; 3 the training diverged; 130 stopped by Ctrl-C, 143 by SIGTERM; 141 nobody reads what
is printed."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def exit_status(error: BaseException) -> int:
    """What a command that ends with this error exits with."""
    if isinstance(error, Interrupted):
        return error.status
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE
    if isinstance(error, FloatingPointError):
        return DIVERGED
    return REFUSED if isinstance(error, (ValueError, OSError)) or is_out_of_memory(error) else OUR_FAULT


def is_out_of_memory(error: BaseException) -> bool:
    """Memory is full. The GPU's by the name of torch's error: torch is not imported for --help."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def is_disk_full(error: BaseException) -> bool:
    """A full disk, a full quota, or a file larger than the process may write."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def sentence(error: BaseException) -> str:
    """What the user reads about an error, without the name of the command and what would steer a terminal."""
    return printable(_sentence(error))


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "stopped."
    if isinstance(error, MemoryError):
        return "the memory is full. Try a smaller picture or batch."
    if is_out_of_memory(error):
        known = " ".join(getattr(error, "__notes__", ())) or "Try a smaller --batch."  # the step says where it was
        return f"the GPU's memory is full. {known}\n{error}"
    if isinstance(error, OSError) and error.filename and not is_disk_full(error):
        return f"{error.filename}: {error.strerror or 'cannot be read or written'}"
    if isinstance(error, OSError) and is_disk_full(error):
        file = f"{error.filename} cannot be written: " if error.filename else ""
        return f"{file}the disk is full ({error.strerror}). Free some space and run it again."
    return str(error)

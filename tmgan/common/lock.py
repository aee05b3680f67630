"""One process at a time: locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def only_one(path: Path, busy: str) -> Iterator[bool]:
    """Hold the lock file `path`, which exists only meanwhile, as do folders above it that stay empty.

    Where it cannot be created, because the folder can only be read, nothing can be written either: no lock is held. Nor
    is one on a file system without locks.

    Yields:
        Whether it is held.

    Raises:
        ValueError: with the message `busy`, when another process holds it.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        number = _acquire(path)
    except BlockingIOError:
        raise ValueError(busy) from None
    except OSError as error:
        if error.errno not in (*_READ_ONLY, *_NO_LOCKS):
            raise
        _remove(made)
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)  # before it is released, so that whoever waits cannot take a file without a name
        os.close(number)
        _remove(made)


def _remove(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):  # something is in it, or it was never made
        for folder in folders:
            folder.rmdir()


def _acquire(path: Path, tries: int = 100) -> int:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            number, ours = _open(path)
        except FileNotFoundError:  # its holder has removed the folder in between, or there never was one
            tries -= 1
            if tries == 0:
                raise
            continue
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(number), path.stat()):
                    return number
        except BaseException as error:
            os.close(number)
            if isinstance(error, PermissionError):  # how some shares of networks say it
                raise BlockingIOError from error
            if ours and isinstance(error, OSError) and error.errno in _NO_LOCKS:
                path.unlink(missing_ok=True)  # it says nothing
            raise
        os.close(number)  # its holder has removed it in between


def _open(path: Path) -> tuple[int, bool]:
    """The lock file, and whether it is new."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666), False

"""Files that are whole or do not exist: written under a temporary name, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tmgan.common.errors import is_disk_full


def write_atomically(path: Path, write: Callable[[BinaryIO], Any], size: int = 0) -> None:
    """Call `write(file)` so that `path` is either the old file or the whole new one, even after a power cut.

    A `path` that is a link stays one: the file it leads to is written.

    Args:
        size: bytes that are needed about, for the message about a full disk; 0: unknown.

    Raises:
        OSError: with `path` as its filename when the disk is full, whatever `write` makes of that.
    """
    shown, path = path, Path(os.path.realpath(path))
    temporary = path.with_name(f"{_begins(path.name)}{os.getpid()}-{secrets.token_hex(4)}")
    file = _File(io.FileIO(temporary, "wb"))
    try:
        with file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        cause = file.error or error
        if isinstance(cause, OSError) and is_disk_full(cause):
            needed = f", and about {size / 1e6:,.1f} MB are needed" if size else ""
            raise OSError(cause.errno, f"{cause.strerror}{needed}", str(shown)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync_to_disk(path.parent)


class _File(io.BufferedWriter):
    """Remembers why a write has failed: torch.save turns any error of the file into one of its own."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data`, whole or not at all."""
    write_atomically(path, lambda file: file.write(data), len(data))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all. Bytes of file names that are no text are escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def append_text(path: Path, text: str) -> None:
    """Append `text` as UTF-8; what a full disk cuts off stays cut off.

    Raises:
        OSError: with `path` as its filename.
    """
    try:
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, value: Any) -> None:
    """Write plain types as JSON, whole or not at all. Raises ValueError for a number that is not finite."""
    write_text(Path(path), json.dumps(value, indent=1, allow_nan=False))


def require_new_folder(out: Path) -> None:
    """ValueError unless there is nothing at `out`, or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not an empty folder. Choose another --out.")


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes it, or fills it, when all is written. It is gone if that fails; a link stays.

    Raises:
        ValueError: as `require_new_folder`.
    """
    require_new_folder(out)
    place = Path(os.path.realpath(out))
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent)
    try:
        folder = Path(temporary) / place.name
        folder.mkdir()  # with the permissions that any folder has
        yield folder
        if place.exists():  # somebody may be in it
            for file in sorted(folder.iterdir()):
                os.replace(file, place / file.name)
        else:
            os.replace(folder, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, before what it is for has taken its time. Makes nothing.

    Raises:
        ValueError: the message names what is in the way.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ValueError(f"{folder} cannot be written to: {there} is no folder. Choose another.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written to: {there} allows no writing. Choose another.")


def user_path(path: str | Path) -> Path:
    """A path as people write it: `~` is their home folder, in places too where no shell has replaced it."""
    return Path(os.path.expanduser(path))


def sync_to_disk(path: Path) -> None:
    """Return when a file, or a folder's list of names, has reached the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def remove_orphans(folder: Path, name: str = "") -> None:
    """Delete the temporary files that a killed `write_atomically` has left in a folder: of all files, or of one."""
    for orphan in folder.glob(f"{_begins(glob.escape(name)) if name else '.*.tmp-'}*"):
        orphan.unlink()


def _begins(name: str) -> str:
    """How the names of a file's temporary files begin."""
    return f".{name[:40]}.tmp-"

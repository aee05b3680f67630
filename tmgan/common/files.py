"""Files that are whole or do not exist: written under a temporary name, flushed to the disk, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Call `write(file)` so that `path` is either the old file or the whole new one, even after a power cut."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_to_disk(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data`, whole or not at all."""
    write_atomically(path, lambda file: file.write(data))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write plain types as JSON, whole or not at all. Raises ValueError for a number that is not finite."""
    write_text(Path(path), json.dumps(value, indent=1, allow_nan=False))


def sync_to_disk(path: Path) -> None:
    """Return when a file, or a folder's list of names, has reached the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def remove_orphans(folder: Path) -> None:
    """Delete the temporary files that a killed `write_atomically` has left in a folder."""
    for orphan in folder.glob(".*.tmp-*"):
        orphan.unlink()

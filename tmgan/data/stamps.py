"""How a file is recognised: by its bytes; its size and modification time only spare reading it again.

A table int64 (N, 7) says for each image what its tiles were cut from (the columns below). It grows in PACK.partial as
done.i64, where a row of zeros is an image that has not been cut, and lies in the pack as stamps.i64.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from tmgan.common.digest import digest, file_digest
from tmgan.data.sources.source import Item

STAMPS = "stamps.i64"  # in a pack; packs of earlier versions lack it
# What was cut (name and box), sizes and times of all its files, the image's time, the pixels that came out, and each
# file's bytes.
WHAT, STATS, MODIFIED, PIXELS, IMAGE, MASK, PARTS = range(7)
COLUMNS = 7
# A file this young may change again without its time moving on: file systems count in steps of up to two seconds.
_YOUNG_NS = 2_000_000_000


def files(item: Item) -> tuple[Path | None, Path | None, Path | None]:
    """The files of an item in the order of the columns IMAGE, MASK, PARTS."""
    return item.image, item.mask, item.parts


def what(item: Item) -> int:
    """Of what is cut, apart from the files' contents."""
    return digest(json.dumps([item.name, item.box]).encode())


def stats(item: Item, now_ns: int | None = None) -> int:
    """Of sizes and modification times.

    Args:
        now_ns: a file that is younger than two seconds at this time makes it 0: its time says nothing. None: none does.
    """
    rows = []
    for file in files(item):
        status = file.stat() if file is not None and file.exists() else None
        rows.append(None if status is None else [status.st_size, status.st_mtime_ns])
        if status is not None and now_ns is not None and now_ns - status.st_mtime_ns < _YOUNG_NS:
            return 0
    return digest(json.dumps(rows).encode())


def stamp(items: list[Item] | tuple[Item, ...]) -> np.ndarray:
    """The table's columns up to MODIFIED, (N, 3): taken before the files are read, so that a later change shows.

    Where STATS is 0, because a file is too young, so is MODIFIED.
    """
    now, rows = time.time_ns(), []
    for item in items:
        known = stats(item, now)
        rows.append([what(item), known, item.image.stat().st_mtime_ns if known and item.image.exists() else 0])
    return np.array(rows, np.int64).reshape(-1, 3)


def is_current(row: np.ndarray, item: Item) -> bool:
    """Whether an image's row (7,) still says what the item's files hold. Reads them when size or time have changed."""
    if row[WHAT] != what(item):
        return False
    if row[STATS] and row[STATS] == stats(item):
        return True
    return [file_digest(file) for file in files(item)] == row[IMAGE : PARTS + 1].tolist()


def read_stamps(pack: Path, count: int) -> np.ndarray | None:
    """The table (N, 7) of a pack, a copy; None when an earlier version made the pack."""
    path = pack / STAMPS
    if not path.is_file():
        return None
    return np.fromfile(path, np.int64).reshape(count, COLUMNS)

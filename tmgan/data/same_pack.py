"""A pack that exists already: is it the one that would be made, and does it know where its pictures are?

A pack is never overwritten. Pictures are compared by what they hold: a file of another time or size is read again,
and one with other bytes is cut again and compared with its tile, so that new metadata in a photo change nothing.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from tmgan.common.errors import sentence
from tmgan.common.files import write_bytes
from tmgan.common.progress import Progress
from tmgan.common.text import first_lines
from tmgan.data import tiles
from tmgan.data.cut_jobs import job_of, problem_of, run_jobs
from tmgan.data.decode import BadImage
from tmgan.data.originals import write_originals
from tmgan.data.pack import ORIGINALS, read_header, write_header
from tmgan.data.sources.source import Item, Source
from tmgan.data.stamps import COLUMNS, IMAGE, STAMPS, is_current, read_stamps, stamp
from tmgan.data.tiles import Cutter, compare, cut_tiles


def check_same(pack: Path, identity: dict[str, Any], source: Source, workers: int | None, show: Progress) -> None:
    """Check that the pack holds what the source holds now, and bring its record of the files up to date.

    Args:
        identity: entries that its header must have.
        workers: processes that cut pictures again; None: as many as pay off.

    Raises:
        ValueError: it is another pack.
    """
    header = read_header(pack)
    difference = next((key for key, value in identity.items() if header.get(key) != value), None)
    if difference is not None:
        raise _other(pack, _how(header, difference, source))
    mended = [
        item.name for item in source.items if item.name in header["skipped"] and _can_be_cut(item, header, source)
    ]
    if mended:
        raise _other(pack, f"images that were left out can be used now: {len(mended)}\n{first_lines(mended, 5)}\n")
    rows = [row for row, item in enumerate(source.items) if item.name not in header["skipped"]]
    _check_pixels(pack, header, source, rows, workers, show)
    folder = str(source.path.resolve())
    try:
        if write_originals(pack, source, rows) or ORIGINALS not in header["bytes"] or header["source"] != folder:
            write_header(pack, {**read_header(pack), "source": folder})
            show.say(f"{pack} now says that its pictures are in {folder}")
    except OSError as error:
        show.say(f"{pack} still says that its pictures are in {header['source']}: {sentence(error)}")


def _how(header: dict[str, Any], difference: str, source: Source) -> str:
    """What an entry of the header that differs means."""
    if difference != "source_hash":
        return f"{difference} is {header.get(difference)}"
    words = header.get("vocabulary_from", "")
    if words != source.vocabulary_from:
        return f"its words are those of {words}, of --vocabulary" if words else "it was made without --vocabulary"
    return "its source had other lists or captions"


def _check_pixels(
    pack: Path, header: dict[str, Any], source: Source, rows: list[int], workers: int | None, show: Progress
) -> None:
    items = [source.items[row] for row in rows]
    table = read_stamps(pack, len(rows))
    same_rules = table is not None and header.get("reading") == tiles.READING
    if not same_rules:
        show.say(f"{pack} was made by another version: every picture is compared with it once")
    if table is None:
        table = np.zeros((len(rows), COLUMNS), np.int64)
    before, fresh = table.copy(), stamp(items)
    changed = [line for line, item in enumerate(items) if not same_rules or not is_current(table[line], item)]
    jobs = [job_of(line, items[line]) for line in changed]
    names = tuple(name for name in ("tiles.u8", "masks.u8", "parts.u8") if name in header["bytes"])
    cutter = Cutter(pack, header["tile"], header["placement"], source.exif, names)
    problems, same_files = [], True
    with show.bar("images compared", len(jobs)):
        for cut in run_jobs(compare, cutter, jobs, workers):
            if cut.problem:
                problems.append(f"{items[cut.row].name}: {cut.problem}")
                same_files = same_files and cut.files == tuple(table[cut.row, IMAGE:].tolist())
            table[cut.row, 3:] = cut.pixels, *cut.files
            show.advance()
    if problems:
        how = "pictures of its source have changed since"
        if same_files or not before.any():  # of a pack of an earlier version, the files are not known
            how = f"pictures of its source {'' if same_files else 'have changed since, or '}are read differently now"
        raise _other(pack, f"{how}: {len(problems)}\n{first_lines(problems, 5)}\n")
    table[:, :3] = fresh
    if not same_rules or not np.array_equal(table, before):
        with contextlib.suppress(OSError):  # a pack that can only be read: its files are read again next time
            write_bytes(pack / STAMPS, table.tobytes())
            write_header(pack, {**header, "reading": tiles.READING})


def _can_be_cut(item: Item, header: dict[str, Any], source: Source) -> bool:
    if problem_of(item):
        return False
    try:
        cut_tiles(job_of(0, item), header["tile"], header["placement"], source.exif)
    except BadImage:
        return False
    return True


def _other(pack: Path, how: str) -> ValueError:
    return ValueError(f"{pack} exists and is another pack ({how}): choose another name, or delete it first")

"""Make a pack from a source folder: `tmgan data prepare`.

The pack grows in PACK.partial and is renamed when it is complete, so a pack is whole or does not exist. A run that was
killed continues: `done.i64` (see stamps.py) says for each image what its tile on the disk was cut from. It is written
only after the tiles have been flushed, so a power cut costs seconds of work and never leaves a black tile behind.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from tmgan.common.files import sync_to_disk, user_path, write_bytes
from tmgan.common.json_text import parse_json
from tmgan.common.lock import only_one
from tmgan.common.progress import Progress
from tmgan.common.text import first_lines
from tmgan.data import tiles
from tmgan.data.cut_jobs import job_of, problem_of, run_jobs
from tmgan.data.given_words import GivenWords, in_words
from tmgan.data.originals import write_originals
from tmgan.data.pack import (
    CHANNELS,
    FORMAT,
    HEADER,
    ORIGINALS,
    TEXTS,
    Pack,
    hash_of_digests,
    partial_path,
    write_header,
    write_texts,
)
from tmgan.data.same_pack import check_same
from tmgan.data.sources.read import read_source
from tmgan.data.sources.source import Source
from tmgan.data.stamps import COLUMNS, PIXELS, STAMPS, is_current, stamp
from tmgan.data.tiles import PLACEMENTS, Cut, Cutter, Job, cut, tile_edge

STATE = "state.json"
DONE = "done.i64"
SYNC_SECONDS = 5.0  # how much work a kill may cost


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What `prepare` did, and counts of the pack.

    Attributes:
        skipped: images that were left out, and why.
        cut: tiles made in this run, in `seconds`.
        notes: remarks, also shown while running.
    """

    pack: Path
    images: int
    train: int
    test: int
    captions: int
    words: int
    skipped: dict[str, str]
    already_prepared: bool
    cut: int
    seconds: float
    notes: tuple[str, ...]


def prepare(
    source: Path,
    pack: Path,
    image_size: int = 256,
    placement: str = "centre",
    workers: int | None = None,
    progress: bool = True,
    skip_bad: bool = False,
    vocabulary: GivenWords | None = None,
) -> Summary:
    """Make the pack `pack` from the folder `source`; continue where a run that was killed has stopped.

    >>> import tmgan
    >>> tmgan.draw_birds("birds", count=20, image_size=64)
    >>> summary = tmgan.prepare("birds", "packs/birds", image_size=64, workers=1)
    >>> summary.images, summary.test
    (20, 3)

    Args:
        image_size: of the crops a model sees; tiles have the edge round(304 / 256 * image_size).
        placement: "centre", or "topleft" (as published): where the square lies in a resized image that is not square.
        workers: processes; None: one per core that this process may use. They are spawned, so a script that calls this
            with more than one worker needs the `if __name__ == "__main__":` guard.
        progress: show progress and remarks on standard error.
        skip_bad: leave out images that cannot be used, and record them in the header, instead of refusing.
        vocabulary: words of trained encoders, whose ids the captions get. None: those of the source's captions.pickle,
            else the captions' own.

    Raises:
        ValueError: the source's lists are unusable, images are bad (all of them are looked at first, and the good ones
            are kept for the next run), no caption has a word of `vocabulary`, `pack` is already something else,
            another process prepares it, or the disk is full.
    """
    source, pack = user_path(source), user_path(pack)
    if placement not in PLACEMENTS:
        raise ValueError(f"placement is one of {', '.join(PLACEMENTS)}, not {placement!r}")
    if image_size < 16 or image_size % 16:
        raise ValueError(f"image_size is a multiple of 16 (64, 128, 256, ...), not {image_size}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is at least 1, not {workers}")
    geometry = {"format": FORMAT, "image_size": image_size, "placement": placement}
    place = Path(os.path.realpath(pack))  # a link stays a link
    busy = f"Another process is preparing {pack}. Wait for it, or choose another name."
    with only_one(place.with_name(f".{place.name}.lock"), busy):
        return _prepare(source, pack, place, geometry, workers, Progress(progress), skip_bad, vocabulary)


def _prepare(
    source: Path,
    pack: Path,
    place: Path,
    geometry: dict[str, Any],
    workers: int | None,
    show: Progress,
    skip_bad: bool,
    vocabulary: GivenWords | None,
) -> Summary:
    """`prepare`, while no other process does the same.

    Args:
        pack: as the user calls it.
        place: where it is made.
    """
    start = time.monotonic()
    listing = read_source(source) if vocabulary is None else in_words(read_source(source), vocabulary)
    identity = {**geometry, "source_hash": listing.listing_hash()}
    for note in listing.notes:
        show.say(note)
    if place.is_file() or place.is_dir() and any(place.iterdir()):
        _require_pack(pack)
        check_same(pack, identity, listing, workers, show)
        show.say(f"{pack} is already prepared")
        return _summary(pack, start, show, cut=0, already=True)
    try:
        cut_now = _make(source, place, identity, listing, workers, show, skip_bad)
    except BrokenPipeError:  # of standard error: nobody reads
        raise
    except OSError as error:
        if isinstance(error.filename, str) and not Path(error.filename).is_relative_to(partial_path(place)):
            raise
        raise ValueError(
            f"{partial_path(pack)} cannot be written ({error.strerror or error}): fix that and run again, it continues"
        ) from error
    return _summary(pack, start, show, cut=cut_now, already=False)


def _require_pack(pack: Path) -> None:
    """Raise ValueError when there is something else in the pack's place."""
    if not pack.is_dir():
        raise ValueError(f"{pack} is a file: choose another name for the pack")
    if not (pack / HEADER).is_file():
        name = min(file.name for file in pack.iterdir())
        raise ValueError(f"{pack} is no pack and not empty (it holds {name}): choose another name")


def _make(
    source: Path,
    place: Path,
    identity: dict[str, Any],
    listing: Source,
    workers: int | None,
    show: Progress,
    skip_bad: bool,
) -> int:
    """Cut what is not cut yet, and complete the pack. Returns how many images were cut."""
    items = listing.items
    image_size, placement = identity["image_size"], identity["placement"]
    files = ["tiles.u8"]
    files += ["masks.u8"] * any(item.mask for item in items)
    files += ["parts.u8"] * any(item.parts for item in items)
    cutter = Cutter(partial_path(place), tile_edge(image_size), placement, listing.exif, tuple(files))
    geometry = {key: identity[key] for key in ("format", "image_size", "placement")}
    state = {**geometry, "kind": listing.kind, "files": files, "count": len(items), "pillow": PIL.__version__}
    state |= {"stamps": f"{COLUMNS} columns", "reading": tiles.READING}  # done.i64 had one column before
    done = _open_partial(cutter, state, len(items), show)
    bad = {row: problem for row, item in enumerate(items) if (problem := problem_of(item))}
    fresh = stamp(items)  # looks at every file
    finished = [row not in bad and is_current(done[row], item) for row, item in enumerate(items)]
    if any(finished):
        show.say(f"continuing: {sum(finished)} of {len(items)} images were finished before")
    jobs = [job_of(row, item) for row, item in enumerate(items) if row not in bad and not finished[row]]
    with show.bar("images", len(items), start=len(items) - len(jobs)):
        bad |= _cut_all(cutter, jobs, fresh, done, workers, show)
    skipped = {items[row].name: bad[row] for row in sorted(bad)}
    left_out = {**listing.unreadable, **skipped}
    problems = first_lines([f"{name}: {problem}" for name, problem in left_out.items()])
    total = len(items) + len(listing.unreadable)
    if left_out and not skip_bad:
        raise ValueError(
            f"{len(left_out)} of {total} images cannot be used:\n{problems}\nFix them and run the command again "
            f"(the finished ones are kept in {cutter.folder}), or leave them out with --skip-bad"
        )

    rows = [row for row in range(len(items)) if row not in bad]
    if not any(items[row].split == "train" for row in rows):
        raise ValueError(f"{source}: no usable image is in the training split")
    if not any(items[row].split == "test" for row in rows):
        show.say("no image is in the test split, so nothing can be measured on held-out images")
    if left_out:
        show.say(f"left out {len(left_out)} of {total} images:\n{problems}")
    table = np.array(done[rows])
    if bad:
        _close_gaps(cutter, rows)
    if listing.dropped:
        show.say(f"caption lines without a word in them, left out: {listing.dropped}")
    header = {
        **identity,
        "reading": tiles.READING,
        "pixels_hash": hash_of_digests(table[:, PIXELS]),
        "source": str(listing.path.resolve()),
        "kind": listing.kind,
        "tile": cutter.tile,
        "count": len(rows),
        "has_masks": "masks.u8" in files,
        "has_parts": "parts.u8" in files,
        "pillow": PIL.__version__,
        "skipped": left_out,
        "dropped_captions": listing.dropped,
        **write_texts(cutter.folder, listing, rows, show),
    }
    write_originals(cutter.folder, listing, rows)
    write_bytes(cutter.folder / STAMPS, table.tobytes())
    write_header(cutter.folder, header)
    cutter.folder.rename(place)
    sync_to_disk(place.parent)
    for name in (STATE, DONE):
        (place / name).unlink(missing_ok=True)
    return sum(job.row not in bad for job in jobs)


def _summary(pack: Path, start: float, show: Progress, cut: int, already: bool) -> Summary:
    contents = Pack.open(pack)
    return Summary(
        pack=pack,
        images=len(contents),
        train=len(contents.train),
        test=len(contents.test),
        captions=len(contents.tokens),
        words=len(contents.vocabulary),
        skipped=contents.header["skipped"],
        already_prepared=already,
        cut=cut,
        seconds=time.monotonic() - start,
        notes=tuple(show.notes),
    )


def _open_partial(cutter: Cutter, state: dict[str, Any], count: int, show: Progress) -> np.memmap:
    """Continue PACK.partial, or begin it. Returns done.i64, (N, COLUMNS) mapped from disk: 0 where nothing is cut."""
    folder = cutter.folder
    sizes = {name: count * cutter.tile**2 * CHANNELS[name] for name in cutter.files} | {DONE: count * COLUMNS * 8}
    if folder.exists():
        difference = _difference(folder, state, sizes)
        if difference:
            show.say(f"starting over: {folder} {difference}")
            shutil.rmtree(folder)
    if not folder.exists():
        folder.mkdir(parents=True)
        free, needed = shutil.disk_usage(folder).free, sum(sizes.values())
        if free < needed:
            folder.rmdir()
            raise ValueError(f"{folder.parent}: the pack takes {needed / 1e9:.1f} GB, only {free / 1e9:.1f} are free")
        for name in cutter.files:
            with open(folder / name, "wb") as file:
                file.truncate(sizes[name])
        write_bytes(folder / DONE, bytes(sizes[DONE]))
        write_bytes(folder / STATE, json.dumps(state).encode())
    return np.memmap(folder / DONE, np.int64, "r+", shape=(count, COLUMNS))


def _difference(folder: Path, state: dict[str, Any], sizes: dict[str, int]) -> str:
    """Why PACK.partial cannot be continued (`it ...`); "" if it can. Raises ValueError if it is not ours to delete."""
    names = {file.name for file in folder.iterdir() if ".tmp-" not in file.name}  # left by a kill of write_atomically
    foreign = names - {*CHANNELS, *TEXTS, STATE, DONE, HEADER, ORIGINALS, STAMPS}
    if foreign:
        raise ValueError(
            f"{folder} holds {min(foreign)}, which no pack has: move that folder away, or choose another name"
        )
    try:
        old_state = dict(parse_json((folder / STATE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return "has no record of its state"
    for key, value in state.items():
        if old_state.get(key) != value:
            return f"was begun with another {key.replace('_', ' ')} ({old_state.get(key)}, now {value})"
    for name, size in sizes.items():
        if name not in names or (folder / name).stat().st_size != size:
            return f"holds a damaged {name}"
    return ""


def _cut_all(
    cutter: Cutter, jobs: list[Job], fresh: np.ndarray, done: np.memmap, workers: int | None, show: Progress
) -> dict[int, str]:
    """Cut all tiles and mark them in `done`. Returns what is wrong with the rows that could not be cut."""
    bad: dict[int, str] = {}
    rows: list[Cut] = []  # since the last sync
    last_sync = time.monotonic()

    def sync() -> None:
        for name in cutter.files:
            sync_to_disk(cutter.folder / name)
        for one in rows:
            done[one.row] = *fresh[one.row], one.pixels, *one.files
        done.flush()
        rows.clear()

    try:
        for one in run_jobs(cut, cutter, jobs, workers):
            if one.problem:
                bad[one.row] = one.problem
            else:
                rows.append(one)
            show.advance()
            if time.monotonic() - last_sync > SYNC_SECONDS:
                sync()
                last_sync = time.monotonic()
    finally:
        sync()
    return bad


def _close_gaps(cutter: Cutter, rows: list[int]) -> None:
    """Move `rows` together, in order. The record goes first: if this is interrupted, the next run starts over."""
    (cutter.folder / STATE).unlink()
    for name in cutter.files:
        size = cutter.tile**2 * CHANNELS[name]
        with open(cutter.folder / name, "r+b") as file:
            for target, row in enumerate(rows):
                if target != row:
                    file.seek(row * size)
                    data = file.read(size)
                    file.seek(target * size)
                    file.write(data)
            file.truncate(len(rows) * size)

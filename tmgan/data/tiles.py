"""Cut the square tile of an image: the geometry, and the worker that reads files and writes tiles.

Bit-exact to Pillow's crop and bilinear resize of the whole decoded picture, as published: no JPEG draft mode, no
reducing, no `box=` argument of `resize` (it lets pixels from outside the crop bleed in). Imports no torch: workers
start with this file.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from tmgan.common.digest import digest, file_digest
from tmgan.data.decode import BadImage, open_photo
from tmgan.data.mask_file import open_map
from tmgan.data.sources.source import Box

READING = 1  # counted up whenever the same files would give other tiles, or none: packs are then compared once
PLACEMENTS = ("centre", "topleft")
MIN_REGION = 8  # less is left of a crop whose box lies at the edge of the image or is a few pixels large
# Of a worker after SIGTERM. A pool of which a worker was killed sends it to the others, so it takes as long to end.
GRACE_SECONDS = 10.0
MAX_RATIO = 20  # of the sides of what is resized; a longer strip only costs memory


def tile_edge(image_size: int) -> int:
    """Edge of the tile from which crops of `image_size` are taken: 76, 152, 304 for 64, 128, 256."""
    return round(304 / 256 * image_size)


def region(size: tuple[int, int], box: Box | None) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of what is kept of an image of `size` (width, height).

    With a box: the square of half-size int(0.75 * longer side) around the box's centre, clipped to the image, so that
    it need not stay square (AttnGAN's `get_imgs`). Without: everything.

    Raises:
        BadImage: the box does not lie on the image, or too little is left.
    """
    width, height = size
    if box is None:
        left, top, right, bottom = 0, 0, width, height
    else:
        x, y, box_width, box_height = (int(side) for side in box)
        half = int(0.75 * max(box_width, box_height))
        centre_x, centre_y = int((2 * x + box_width) / 2), int((2 * y + box_height) / 2)
        if box_width <= 0 or box_height <= 0 or not (0 <= centre_x <= width and 0 <= centre_y <= height):
            raise BadImage(
                f"its box (x {x}, y {y}, width {box_width}, height {box_height}) does not lie on the image "
                f"({width}x{height} pixels): correct the box"
            )
        left, top = max(0, centre_x - half), max(0, centre_y - half)
        right, bottom = min(width, centre_x + half), min(height, centre_y + half)
    short, long = sorted((right - left, bottom - top))
    if short < MIN_REGION or long > MAX_RATIO * short:
        raise BadImage(
            f"only {right - left}x{bottom - top} pixels of it would be used: correct its box, or leave it out"
        )
    return left, top, right, bottom


def to_tile(
    image: Image.Image, box: Box | None, tile: int, placement: str, resample: int = Image.Resampling.BILINEAR
) -> Image.Image:
    """The `tile` x `tile` square of an image: crop to `region`, resize the shorter side to `tile`, cut the square.

    Args:
        placement: "centre" takes the middle. As published: "topleft" takes the top left (its 256-of-304 crop offsets
            never reach further), so the right or lower part of a region that is not square is lost.
    """
    image = image.crop(region(image.size, box))
    width, height, left, top = place_tile(image.size, tile, placement)
    if (width, height) != image.size:
        image = image.resize((width, height), resample)
    return image.crop((left, top, left + tile, top + tile)) if (width, height) != (tile, tile) else image


def place_tile(size: tuple[int, int], tile: int, placement: str) -> tuple[int, int, int, int]:
    """Where the tile lies in a region of `size`: width and height of the scaled region, left and top of the tile."""
    width, height = size
    if width < height:
        width, height = tile, int(tile * height / width)
    else:
        width, height = int(tile * width / height), tile
    return (
        (width, height, (width - tile) // 2, (height - tile) // 2) if placement == "centre" else (width, height, 0, 0)
    )


@dataclass(frozen=True)
class Cutter:
    """Everything the workers share: the geometry and the files they write into."""

    folder: Path
    tile: int
    placement: str
    exif: bool
    files: tuple[str, ...]  # tiles.u8, then masks.u8 and parts.u8 where the source has them


class Job(NamedTuple):
    row: int
    image: Path
    box: Box | None
    mask: Path | None
    parts: Path | None


class Cut(NamedTuple):
    """What became of a job: its row, what is wrong ("" if nothing), and digests of its pixels and of its files."""

    row: int
    problem: str
    pixels: int = 0
    files: tuple[int, int, int] = (0, 0, 0)


def cut(cutter: Cutter, jobs: list[Job]) -> list[Cut]:
    """Write the tiles of `jobs` into their rows."""
    return _each(cutter, jobs, "r+b", lambda file, data: file.write(data) == len(data))


def compare(cutter: Cutter, jobs: list[Job]) -> list[Cut]:
    """Cut the tiles of `jobs` and compare them with those in their rows. A difference is a problem."""
    return _each(cutter, jobs, "rb", lambda file, data: file.read(len(data)) == data)


def _each(cutter: Cutter, jobs: list[Job], mode: str, do: Callable[[Any, bytes], bool]) -> list[Cut]:
    """`do` something with each file, which stands at a row, and that row's bytes. False: the row is not what it was."""
    results = []
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(cutter.folder / name, mode)) for name in cutter.files]
        for job in jobs:
            try:
                tiles = cut_tiles(job, cutter.tile, cutter.placement, cutter.exif)
            except BadImage as error:
                results.append(Cut(job.row, str(error), files=_digests(job)))
                continue
            rows = [tile.tobytes() for tile in tiles]
            problem = ""
            for name, file, data in zip(cutter.files, files, rows, strict=True):
                file.seek(job.row * len(data))
                if not do(file, data):
                    problem = problem or f"its {name.removesuffix('s.u8')} looks different now"
            results.append(Cut(job.row, problem, digest(*rows), _digests(job)))
    return results


def _digests(job: Job) -> tuple[int, int, int]:
    try:
        return file_digest(job.image), file_digest(job.mask), file_digest(job.parts)
    except OSError:  # it cannot be read, which is its problem
        return 0, 0, 0


def cut_tiles(job: Job, tile: int, placement: str, exif: bool) -> list[Image.Image]:
    """The tiles of one image: photo (RGB), then mask and label map where it has them. Raises BadImage."""
    photo = open_photo(job.image, exif)
    tiles = [to_tile(photo, job.box, tile, placement)]
    if job.mask is not None:
        tiles.append(to_tile(open_map(job.mask, photo.size, exif, labels=False), job.box, tile, placement))
    if job.parts is not None:
        labels = open_map(job.parts, photo.size, exif, labels=True)
        tiles.append(to_tile(labels, job.box, tile, placement, Image.Resampling.NEAREST))
    return tiles


def start_worker() -> None:
    """Set up a worker process: it keeps image memory, leaves Ctrl-C to its parent, and ends with its parent.

    Without the last, workers would wait forever when the parent is killed. SIGTERM, which a scheduler or `timeout`
    sends to all processes of a job, ends a worker a little later: its parent needs it to finish what it has begun.
    """
    # PILLOW_BLOCKS_MAX: without it, a quarter of the time goes into new pages (3.6 -> 4.9 ms).
    Image.core.set_blocks_max(8)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # see training/loaders/pillow.py
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is not a worker process"

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _end_later(number: int, frame: Any) -> None:
    timer = threading.Timer(GRACE_SECONDS, os._exit, (128 + number,))
    timer.daemon = True  # a worker that is told to end by its pool ends at once
    timer.start()

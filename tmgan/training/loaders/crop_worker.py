"""What a worker process of the pillow loader does: decode an original, cut its crop, write it into shared memory.

Imports no torch: a worker starts in a tenth of a second and stays small.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tmgan.data.decode import BadImage, open_photo
from tmgan.data.tiles import start_worker

_slots: np.ndarray | None = None  # (slots, B, S, S, 3) uint8, shared with the parent


class Crop(NamedTuple):
    """One row of a batch.

    Attributes:
        path: of the picture.
        region: left, top, right, bottom in the picture.
        scaled: (width, height) that the region is resized to.
        corner: (left, top) of the crop in the resized region.
    """

    path: Path
    region: tuple[int, int, int, int]
    scaled: tuple[int, int]
    corner: tuple[int, int]


def start(memory: ctypes.Array[ctypes.c_ubyte], shape: tuple[int, ...], all_there: Barrier) -> None:
    """Set up the process: where the crops go, and that it ends with its parent. Waits until the others have started."""
    global _slots
    _slots = np.frombuffer(memoryview(memory), np.uint8).reshape(shape)
    start_worker()
    all_there.wait()


def cut_crops(slot: int, row: int, crops: Sequence[Crop], exif: bool) -> str:
    """Write `crops` into a slot, from row `row` on.

    Returns:
        What is wrong with the first picture that cannot be read, else "".
    """
    assert _slots is not None
    size = _slots.shape[2]
    for offset, crop in enumerate(crops):
        try:
            photo = open_photo(crop.path, exif)
        except BadImage as error:
            return str(error)
        _slots[slot, row + offset] = cut_crop(photo, crop, size)
    return ""


def cut_crop(photo: Image.Image, crop: Crop, size: int) -> Image.Image:
    """The crop, `size` x `size`: the same bytes as a crop of the tile that `prepare` cuts (tiles.to_tile)."""
    photo = photo.crop(crop.region)
    if photo.size != crop.scaled:
        photo = photo.resize(crop.scaled, Image.Resampling.BILINEAR)
    left, top = crop.corner
    return photo.crop((left, top, left + size, top + size))

"""What a picture file keeps of its levels: Pillow's pixels do not tell. Imports no torch: workers start here."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

_PNG_BITS = 24  # where the header of a PNG says how many
_TIFF_BITS, _TIFF_WHITE = 258, 262  # tags: bits per sample, and photometric interpretation, 0 where white is 0
_MAY_BE_LOSSY = ("JPEG", "MPO", "AVIF", "JPEG2000")  # the last two may be lossless, and do not say so


def is_lossy(image: Image.Image, path: Path) -> bool:
    """Whether the levels of an opened picture may be a little off."""
    if image.format == "WEBP":
        return not _is_lossless_webp(path)
    return image.format in _MAY_BE_LOSSY or image.info.get("compression") in ("jpeg", "webp")  # of a TIFF


def bits_per_channel(image: Image.Image, path: Path) -> int:
    """As stored in a PNG or TIFF; 8 for other formats.

    Pillow gives the upper 8 of 16 in colour, and see level_step().
    """
    if image.format == "PNG":
        with open(path, "rb") as file:
            return file.read(_PNG_BITS + 1)[_PNG_BITS]
    return max(image.tag_v2.get(_TIFF_BITS, (8,))) if image.format == "TIFF" else 8  # type: ignore[attr-defined]


def level_step(bits: int) -> int:
    """What Pillow multiplies the levels of a greyscale picture by."""
    return {2: 85, 4: 17}.get(bits, 1)


def white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF counts from white to black. Pillow turns that around, but not with 16 bits."""
    return image.format == "TIFF" and image.tag_v2.get(_TIFF_WHITE) == 0  # type: ignore[attr-defined]


def _is_lossless_webp(path: Path) -> bool:
    """False also for an animation of one picture, which nobody makes for a mask."""
    with open(path, "rb") as file:
        file.seek(12)  # RIFF, size, WEBP
        while len(head := file.read(8)) == 8:
            if head[:4] == b"VP8L":
                return True
            size = int.from_bytes(head[4:], "little")
            file.seek(size + size % 2, os.SEEK_CUR)
    return False

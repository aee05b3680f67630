"""Decode photos, masks and label maps. The pixels are Pillow's, and what is wrong with a file becomes a sentence.

Imports no torch: workers start with this file.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps

MIN_SIDE = 32  # an image smaller than this is almost certainly in the set by mistake


class BadImage(ValueError):
    """A picture that cannot become a tile; the message says why and what to do."""


def open_photo(path: Path, exif: bool) -> Image.Image:
    """The decoded picture in RGB; with `exif`, turned upright. Greyscale, CMYK and palettes are converted.

    As published, transparency is dropped (the colour below it is up to the file).

    Raises:
        BadImage: the file is missing, cannot be decoded, or has too few pixels.
    """
    image = _decode(path, exif)
    if min(image.size) < MIN_SIDE:
        raise BadImage(f"{image.width}x{image.height} pixels are too few (at least {MIN_SIDE} per side): leave it out")
    return image if image.mode == "RGB" else image.convert("RGB")


def open_map(path: Path, size: tuple[int, int], exif: bool, labels: bool) -> Image.Image:
    """A mask (0..255, white on the object), or with `labels` a label map unchanged.

    A mask of zeros and ones is read as one of 0 and 255.

    Args:
        size: width and height of the photo it belongs to.

    Raises:
        BadImage: the file is missing, cannot be decoded, or has another size.
    """
    image = _decode(path, exif)
    if image.size != size:
        raise BadImage(
            f"{path} has {image.width}x{image.height} pixels, its image {size[0]}x{size[1]}: they must be equal"
        )
    if labels:
        return image if image.mode in ("L", "P") else image.convert("L")
    image = image.convert("L")
    return image.point(lambda value: 255 * value) if image.getextrema()[1] == 1 else image


def _decode(path: Path, exif: bool) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
        if exif:
            ImageOps.exif_transpose(image, in_place=True)  # without it, every image would be copied
    except FileNotFoundError:
        raise BadImage(f"{path} is missing") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise BadImage(f"{path} cannot be decoded ({error}): get it again") from None
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        raise BadImage(f"{path} has more than 8 bits per channel: save it with 8 bits")
    return image

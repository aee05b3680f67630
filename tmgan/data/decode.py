"""Decode photos. The pixels are Pillow's, and what is wrong with a file becomes a sentence that names it.

Imports no torch: workers start with this file.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from tmgan.data.levels import bits_per_channel, level_step

# What is read, by content and not by name. Not EPS, whose reader starts Ghostscript, a program that runs what it is
# given; nor kinds that no photo is. MPO is among JPEG.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "PSD", "TGA", "ICO")
MIN_SIDE = 32  # an image smaller than this is almost certainly in the set by mistake
# Phones write MPO, a photo followed by its preview or depth map; of PSD the whole is read, and layers are counted.
_ONE_AND_MORE = ("MPO", "PSD")
_MEGA = 1_000_000
_HEAD = 512  # bytes that tell what a file is that Pillow cannot read
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")  # JPEG, PNG, GIF, WebP
_TIFFS = (b"II*\0", b"MM\0*")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class BadImage(ValueError):
    """A picture that cannot become a tile; the message says why and what to do."""


def open_photo(path: Path, exif: bool) -> Image.Image:
    """The decoded picture in RGB; with `exif`, turned upright. Greyscale, CMYK and palettes are converted.

    Raises:
        BadImage: the file is missing, cannot be decoded, has too few pixels, or is transparent somewhere: what colour
            lies below is up to the program that wrote it.
    """
    image = decode(path, exif)
    check_size(image, path)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if any(image.getchannel("A").histogram()[:255]):
            raise BadImage(
                f"{path} has transparent areas, whose colour is unknown: lay it over a background and save it without "
                "transparency"
            )
    return image if image.mode == "RGB" else image.convert("RGB")


def check_size(image: Image.Image, path: Path) -> None:
    """Raise BadImage when a side of a photo has fewer than MIN_SIDE pixels."""
    if min(image.size) < MIN_SIDE:
        raise BadImage(
            f"{path}: {image.width}x{image.height} pixels are too few (at least {MIN_SIDE} per side): leave it out"
        )


def decode(path: Path, exif: bool) -> Image.Image:
    """The decoded picture in the mode it is stored in, with its metadata; with `exif`, turned upright.

    Raises:
        BadImage: the file is missing, holds several pictures or more than 8 bits per channel, or cannot be decoded.
    """
    image = read_picture(path, exif)
    check_depth(image, path)
    return image


def check_depth(image: Image.Image, path: Path) -> None:
    """Raise BadImage when a picture has more than 8 bits per channel, which Pillow would cut off at 255."""
    if is_deep(image):
        raise BadImage(f"{path} has more than 8 bits per channel: save it with 8 bits")


def is_deep(image: Image.Image) -> bool:
    """Whether a picture has more than 8 bits per channel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def read_picture(path: Path, exif: bool) -> Image.Image:
    """decode() of any depth. The decoders of Pillow raise nearly anything on a damaged file; here it is BadImage."""
    try:
        with warnings.catch_warnings():  # 89 to 178 megapixels are many, but no attack: the user asked for them
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", "image file could not be identified")  # _advice() says it better
            return _load(path, exif)
    except FileNotFoundError:
        raise BadImage(f"{path} is missing") from None
    except BadImage:
        raise
    except Exception as error:
        raise BadImage(f"{path} {_advice(path, error)}") from None


def _load(path: Path, exif: bool) -> Image.Image:
    image = Image.open(path, formats=FORMATS)
    try:
        _check_single(image, path)
        image.load()
        if image.mode in ("P", "PA") and image.palette is None:
            raise BadImage(f"{path} has colours by number, and no palette that says which. Save it again")
        if image.mode == "L" and isinstance(image.info.get("transparency"), int):  # as stored, unlike the pixels
            image.info["transparency"] *= level_step(bits_per_channel(image, path))
        if exif:
            ImageOps.exif_transpose(image, in_place=True)  # without it, every image would be copied
    except BaseException:
        image.close()
        raise
    return image


def _check_single(image: Image.Image, path: Path) -> None:
    """Refuse animations and pages."""
    count = getattr(image, "n_frames", 1)
    if count > 1 and image.format not in _ONE_AND_MORE:
        raise BadImage(f"{path} holds {count} pictures: save the one that is meant by itself")


def _advice(path: Path, error: Exception) -> str:
    """What is wrong with a file that Pillow does not read, and what helps."""
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // _MEGA  # Pillow warns at its limit and refuses at twice as many
        found = re.search(r"\((\d+) pixels", str(error))
        count = f"{int(found[1]) / _MEGA:.0f}" if found else f"more than {most}"
        return f"has {count} megapixels, and at most {most} are read: scale it down"
    if isinstance(error, OSError) and error.errno:
        return f"cannot be opened ({error.strerror})"
    if path.stat().st_size == 0:
        return "cannot be decoded, it is empty: get it again"
    if isinstance(error, UnidentifiedImageError):
        return _unknown_kind(path)
    return f"cannot be decoded ({error}): get it again"


def _unknown_kind(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if head[4:8] == b"ftyp":
        brands = [head[start : start + 4] for start in range(8, min(len(head), 64), 4)]
        if any(brand in brands for brand in _AVIF_BRANDS):  # first: AVIF lists brands of HEIC too
            return "is an AVIF picture, which this Pillow cannot read: save it as JPEG or PNG"
        if any(brand in brands for brand in _HEIC_BRANDS):
            return "is a HEIC picture, which Pillow cannot read: save it as JPEG or PNG"
    if head.startswith(_LFS_POINTER):
        return "is a pointer of Git LFS, not the picture: run `git lfs pull` in its repository"
    if re.search(rb"<(!doctype html|html|head|body)\b", head.lower()):
        return "is an HTML page, not a picture, so its download failed: get it again"
    if head.startswith(_TIFFS):
        return "cannot be decoded, it is damaged or a TIFF of a kind that Pillow cannot read: save it as PNG"
    if head.startswith(_BEGINNINGS):
        return "cannot be decoded, it is damaged: get it again"
    return "cannot be decoded, it is no picture that can be read: save it as JPEG or PNG, or leave it out"

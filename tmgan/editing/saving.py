"""Write an edited photo with what its Image.info holds: `photo_file.py` says what that is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tmgan.common.picture_files import format_of, write_picture
from tmgan.editing.batch import PICTURES
from tmgan.editing.colour import in_rgb
from tmgan.editing.photo_file import JPEG, over_white

_ALPHA = ("PNG", "WEBP", "TIFF")  # formats that hold transparency
_PROFILE = (*_ALPHA, "JPEG")  # formats that hold a colour profile, EXIF and XMP
_OTHERWISE = {"quality": 95, "subsampling": 0}  # of a JPEG of a photo that was none
# Bytes of EXIF and XMP that fit into a JPEG: one marker each, XMP with its name.
_MOST = {"exif": 65533, "xmp": 65533 - 29}
_XMP_TAG = 700  # in TIFF


def save_photo(picture: Image.Image, path: str | Path) -> tuple[str, ...]:
    """Write a picture that Editor.edit has made, with its profile, transparency, EXIF, XMP and resolution.

    The file is written whole or not at all. PNG, TIFF and WebP are exact. JPEG is as coarse as the photo's was if that
    was a JPEG, else of quality 95. The format follows the ending of `path`.

    Returns:
        What the format cannot hold, as sentences.

    Raises:
        OSError: the disk is full; its filename is `path`.
        ValueError: the ending belongs to no format, the picture is too large for it, or `path` cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURES:
        raise ValueError(f"{path}: a photo is written to a name that ends in {', '.join(PICTURES)}.")
    kind = format_of(path)
    fit, notes = _fit(picture, kind, path)
    options, left_out = _options(fit, kind, path)
    buffer = io.BytesIO()
    try:
        fit.save(buffer, format=kind, **options)
    except Exception as error:  # Pillow's encoders raise nearly anything: sizes, tags
        raise ValueError(f"{path} cannot be written as {kind} ({error}); .png holds any picture.") from error
    write_picture(path, buffer.getvalue())
    return notes + left_out


def _fit(picture: Image.Image, kind: str, path: Path) -> tuple[Image.Image, tuple[str, ...]]:
    """The picture as a format can hold it, and notes on what that costs."""
    fit, notes = picture, []
    if picture.mode == "RGBA" and kind not in _ALPHA:
        alpha = picture.getchannel("A")
        fit = over_white(picture.convert("RGB"), alpha)
        if alpha.getextrema() != (255, 255):
            notes.append(f"{path}: {kind} holds no transparency, the photo is laid over white. .png keeps it.")
    profile = picture.info.get("icc_profile")
    if profile and kind not in _PROFILE:
        rgb, colour, _ = in_rgb(fit, profile, str(path))
        if not colour.is_srgb:
            fit = colour.to_srgb(rgb)
            notes.append(f"{path}: {kind} holds no colour profile, the colours are converted to sRGB. .png keeps it.")
    if fit is not picture:
        fit.info = dict(picture.info)
    return fit, tuple(notes)


def _options(picture: Image.Image, kind: str, path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Arguments of Image.save for a format, and notes on what does not fit."""
    carried: dict[str, Any] = {
        key: picture.info[key] for key in ("icc_profile", "exif", "xmp", "dpi") if key in picture.info
    }
    notes = []
    if kind == "JPEG":
        for key, most in _MOST.items():
            if len(carried.get(key, b"")) > most:
                del carried[key]
                notes.append(f"{path}: the photo's {key.upper()} data are too long for a JPEG and are left out.")
        carried.update(picture.info.get(JPEG, _OTHERWISE))
        if carried.get("keep_rgb"):
            carried.pop("dpi", None)  # its marker, JFIF, means YCbCr
    elif kind == "WEBP":
        carried.update(lossless=True, exact=True)
    elif kind == "PNG" and "xmp" in carried:
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", carried.pop("xmp").decode("utf-8", "replace"))
        carried["pnginfo"] = text
    elif kind == "TIFF":
        carried["exif"] = _tiff_tags(carried.pop("exif", b""), carried.pop("xmp", b""))
    return carried, tuple(notes)


def _tiff_tags(exif: bytes, xmp: bytes) -> Image.Exif:
    """EXIF and XMP as tags among the TIFF's own."""
    tags = Image.Exif()
    tags.load(exif)
    if xmp:
        tags[_XMP_TAG] = xmp
    return tags

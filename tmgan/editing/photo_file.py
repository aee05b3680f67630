"""A photo as its file holds it: RGB, and what is to be as before in the edited one. `saving.py` writes it."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from tmgan.data import decode
from tmgan.editing.colour import ColourSpace, in_rgb

JPEG = "jpeg"  # key of Image.info: how the photo's JPEG file was written, as arguments of Image.save
_MAKER_NOTE, _WIDTH, _HEIGHT = 0x927C, 0xA002, 0xA003
_JPEG_START = b"\xff\xd8\xff"
_THUMBNAILS_END = b"</xmp:Thumbnails>"
_TURNED = (5, 6, 7, 8)  # orientations that exchange width and height
# Python's filters of warnings belong to the process: who changes them for a moment, here and in data/decode.py, must be
# alone, or threads would leave those of another behind.
WARNING_FILTERS = threading.Lock()
# Tags of EXIF's first directory that describe how the pixels lie in the old file, or hold pixels, a profile or XMP. In
# a TIFF they stand beside those about the photo. Orientation is among them: the photo is upright.
_OF_THE_OLD_FILE = {
    *range(254, 267),
    *(
        273,
        274,
        277,
        278,
        279,
        280,
        281,
        284,
        292,
        293,
        301,
        317,
        320,
        322,
        323,
        324,
        325,
        330,
        338,
        339,
        340,
        341,
        347,
    ),
    *range(512, 522),
    *(529, 530, 532, 700, 33723, 34377, 34675, 37724),
}


@dataclass(frozen=True)
class Photo:
    """A photo, upright.

    Attributes:
        rgb: its pixels in its own colour space, below transparent ones too.
        alpha: its opacity, greyscale, 255 where opaque; None if the file has none.
        colour: the space of `rgb`.
        info: what an edited picture takes along, by the keys of Image.info: icc_profile, exif, xmp, dpi, comment,
            and JPEG.
        notes: what the user should know about how it was read.
    """

    rgb: Image.Image
    alpha: Image.Image | None
    colour: ColourSpace
    info: dict[str | tuple[int, int], Any]
    notes: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.size

    def over_white(self, area: tuple[int, int, int, int] | None = None) -> Image.Image:
        """The photo, or an area (left, top, right, bottom) of it, as seen on a white page; in its own colour space."""
        rgb = self.rgb.crop(area) if area else self.rgb
        if self.alpha is None:
            return rgb
        return over_white(rgb, self.alpha.crop(area) if area else self.alpha)

    def with_pixels(self, rgb: Image.Image) -> Image.Image:
        """An edited RGB picture with this photo's transparency and info."""
        picture = rgb.copy()
        if self.alpha is not None:
            picture.putalpha(self.alpha)
        picture.info = dict(self.info)
        return picture


def over_white(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    """A transparent picture as seen on a white page."""
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)


def read_photo(photo: str | Path | Image.Image) -> Photo:
    """A photo from a file, or a picture of Pillow's, which stays as it is.

    Raises:
        ValueError: the file is missing, damaged or of an unsuitable kind; the message names it.
    """
    if not isinstance(photo, Image.Image):
        path = Path(photo)
        with WARNING_FILTERS:
            image = decode.decode(path, exif=False)
        decode.check_size(image, path)
        return _photo(image, str(path))
    if decode.is_deep(photo):
        raise ValueError(f"The picture has more than 8 bits per channel (mode {photo.mode}): convert it to 8 bits.")
    return _photo(photo, "The picture")


def _photo(image: Image.Image, name: str) -> Photo:
    exif, turned, exif_notes = _exif(image, name)
    upright = image.copy() if exif_notes else ImageOps.exif_transpose(image)  # damaged EXIF: the photo as it lies
    opaque, alpha = _split(upright)
    rgb, colour, notes = in_rgb(opaque, upright.info.get("icc_profile"), name)
    jpeg = _how_jpeg_was_written(image, turned)
    info: dict[str | tuple[int, int], Any] = {
        "icc_profile": colour.profile,
        "exif": exif,
        "xmp": _xmp(upright.info.get("xmp")),
        "dpi": _dpi(upright.info.get("dpi")),
        "comment": upright.info.get("comment") if jpeg else None,
        JPEG: jpeg,
    }
    return Photo(rgb, alpha, colour, {key: value for key, value in info.items() if value}, notes + exif_notes)


def _split(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """A picture without its transparency, colours below it as stored, and its opacity if it has any."""
    grey = picture.mode in ("1", "L", "LA", "La")
    if not picture.has_transparency_data:
        return (picture.convert("L") if grey else picture), None
    whole = picture.convert("LA" if grey else "RGBA")
    return whole.convert("L" if grey else "RGB"), whole.getchannel("A")


def _exif(image: Image.Image, name: str) -> tuple[bytes, bool, tuple[str, ...]]:
    """EXIF of the photo once it is upright, without the pictures in it, which show the photo before the edit.

    Returns:
        The data, whether turning the photo upright exchanges width and height, and a note if they are damaged.
    """
    try:
        with WARNING_FILTERS, warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow only warns of EXIF that it cannot read
            read = image.getexif()
        if not len(read):
            return b"", False, ()
        turned = read.get(ExifTags.Base.Orientation) in _TURNED
        exif = Image.Exif()
        exif.load(read.tobytes())  # a copy, without the thumbnail: Pillow does not write that directory
        for tag in _OF_THE_OLD_FILE & set(exif):
            del exif[tag]
        camera = exif.get_ifd(ExifTags.IFD.Exif)
        if _JPEG_START in bytes(camera.get(_MAKER_NOTE, b"")):
            del camera[_MAKER_NOTE]  # it holds a preview
        upright = image.size[::-1] if turned else image.size
        camera.update({tag: pixels for tag, pixels in zip((_WIDTH, _HEIGHT), upright, strict=True) if tag in camera})
        return (exif.tobytes() if len(exif) else b""), turned, ()
    except Exception as error:  # Pillow raises nearly anything on damaged EXIF
        return b"", False, (f"{name}: its EXIF data are damaged ({error}) and are left out.",)


def _xmp(xmp: bytes | str | None) -> bytes | None:
    """XMP without thumbnails, which show the photo before the edit."""
    data = xmp.encode() if isinstance(xmp, str) else xmp
    if not data:
        return None
    kept, place = [], 0
    while (start := data.find(b"<xmp:Thumbnails>", place)) >= 0 and (end := data.find(_THUMBNAILS_END, start)) >= 0:
        kept.append(data[place:start])  # no regular expression: it looks for the end once for each beginning
        place = end + len(_THUMBNAILS_END)
    return b"".join([*kept, data[place:]])


def _dpi(dpi: Any) -> tuple[float, float] | None:
    """Pixels per inch as plain numbers; None if they make no sense."""
    try:
        across, down = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 1 <= across <= 65535 and 1 <= down <= 65535 else None


def _how_jpeg_was_written(image: Image.Image, turned: bool) -> dict[str, Any]:
    """Arguments of Image.save for a JPEG as coarse as this one, so that pixels hardly change; empty for other files.

    CMYK is none of them: its four components become three.
    """
    if not isinstance(image, JpegImageFile) or len(image.layer) not in (1, 3):
        return {}
    tables = [list(image.quantization[component[3]]) for component in image.layer]
    if turned:  # rows and columns of the 8 x 8 frequencies change places too
        tables = [[table[8 * column + row] for row in range(8) for column in range(8)] for table in tables]
    while len(tables) > 1 and tables[-1] == tables[-2]:  # Pillow uses the last table for the components that follow
        tables.pop()
    sampling = get_sampling(image)  # 0: 4:4:4, 1: 4:2:2, 2: 4:2:0, -1: grey, or one that Pillow does not write
    if sampling == -1 or (sampling == 1 and turned):
        sampling = 0
    names = [component[0] for component in image.layer]
    return {
        "qtables": tables,
        "subsampling": sampling,
        "progressive": bool(image.info.get("progressive")),
        "keep_rgb": names == list(b"RGB") or (len(names) == 3 and image.info.get("adobe_transform") == 0),
    }

"""Colour profiles: the networks have learnt from sRGB, and a photo need not be in it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms
from PIL.ImageCms import ImageCmsProfile, ImageCmsTransform, PyCMSError

_SPACES = {"L": "GRAY", "CMYK": "CMYK"}  # ICC's name of the space of pixels that Pillow does not hold as RGB
_SRGB_TOLERANCE = 2  # levels: descriptions of sRGB differ by rounding
_UNUSABLE = (OSError, PyCMSError, ImportError)  # ImportError: a Pillow without LittleCMS


class ColourSpace:
    """The RGB space that a photo's pixels are in, and the ways to sRGB and back.

    Both ways do nothing for sRGB, so such a photo is edited without a change by rounding.

    Attributes:
        profile: the photo's ICC profile; None where it has none, which means sRGB.
    """

    def __init__(
        self,
        profile: bytes | None = None,
        to_srgb: ImageCmsTransform | None = None,
        from_srgb: ImageCmsTransform | None = None,
    ):
        self.profile, self._to_srgb, self._from_srgb = profile, to_srgb, from_srgb

    @property
    def is_srgb(self) -> bool:
        """Pixels are taken as they are."""
        return self._to_srgb is None

    def to_srgb(self, picture: Image.Image) -> Image.Image:
        """An RGB picture of this space in sRGB; colours outside sRGB become the nearest inside."""
        return picture if self._to_srgb is None else self._to_srgb.apply(picture)

    def from_srgb(self, picture: Image.Image) -> Image.Image:
        """An RGB picture in sRGB in this space."""
        return picture if self._from_srgb is None else self._from_srgb.apply(picture)


def in_rgb(picture: Image.Image, profile: bytes | None, name: str) -> tuple[Image.Image, ColourSpace, tuple[str, ...]]:
    """A picture without transparency as RGB, and the space that RGB is in.

    RGB stays in the space of its profile. Grey and CMYK are converted to sRGB by theirs. A profile that is damaged or
    describes other pixels is left out, and a note says so.

    Args:
        profile: the ICC profile of the picture.
        name: of the picture, for the notes.
    """
    if not profile:
        return picture.convert("RGB"), ColourSpace(), ()
    space = _SPACES.get(picture.mode, "RGB")
    try:
        opened = ImageCmsProfile(io.BytesIO(profile))
        described = opened.profile.xcolor_space.strip()
        if described != space:
            return _without(picture, name, f"describes {described}, the pixels are {space}")
        if space != "RGB":
            return _transform(opened, _srgb(), picture.mode).apply(picture), ColourSpace(), ()
        to_srgb = _transform(opened, _srgb(), "RGB")
    except _UNUSABLE as error:
        return _without(picture, name, f"is damaged ({error})")
    if _changes_nothing(to_srgb):
        return picture.convert("RGB"), ColourSpace(profile), ()
    try:
        return picture.convert("RGB"), ColourSpace(profile, to_srgb, _transform(_srgb(), opened, "RGB")), ()
    except PyCMSError:  # a scanner's profile, say, which leads only out of its space
        note = f"{name}: its colour profile cannot be converted to. It is kept; the model sees the colours as sRGB."
        return picture.convert("RGB"), ColourSpace(profile), (note,)


def _without(picture: Image.Image, name: str, reason: str) -> tuple[Image.Image, ColourSpace, tuple[str, ...]]:
    note = f"{name}: its colour profile {reason}. It is left out, and the colours are taken as sRGB."
    return picture.convert("RGB"), ColourSpace(), (note,)


def _srgb() -> ImageCmsProfile:
    return ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _transform(source: ImageCmsProfile, target: ImageCmsProfile, mode: str) -> ImageCmsTransform:
    """From pixels of `mode` to RGB, as photos are usually converted: white stays white and black stays black."""
    return ImageCms.buildTransform(
        source,
        target,
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def _changes_nothing(transform: ImageCmsTransform) -> bool:
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    there = np.array(transform.apply(Image.fromarray(colours))).astype(int)
    return bool(np.abs(there - colours).max() <= _SRGB_TOLERANCE)

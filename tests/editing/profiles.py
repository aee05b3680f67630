"""Small ICC profiles with known answers, and the look of a picture in a viewer that heeds its profile."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, ImageCms

# Columns: XYZ, for D50, of the red, green and blue of Adobe RGB (1998) and of sRGB; the first one's gamma is 563 / 256.
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def _number(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_number, values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    white = _xyz((0.9642, 1.0, 0.8249))
    tags = {b"wtpt": white, **tags}
    offset, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", offset + len(data), len(content))
        data += content
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(
        ">I4s4s4s4s4s12s4s", 128 + len(body), b"lcms", b"\2\x20\0\0", kind, space, connection, b"", b"acsp"
    )
    return (head + bytes(28) + white[8:]).ljust(128, b"\0") + body


def adobe_rgb() -> bytes:
    colours = {name: _xyz(ADOBE[:, k]) for k, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return _profile(b"RGB ", b"XYZ ", {**colours, **{n: _gamma(563 / 256) for n in (b"rTRC", b"gTRC", b"bTRC")}})


def grey(gamma: float) -> bytes:
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


def _table(corners: list[tuple[int, int, int]]) -> bytes:
    """Levels of L*a*b* (128 is neutral) at the corners of a device's space; its last channel runs fastest."""
    channels, same = len(corners).bit_length() - 1, bytes(range(256))
    head = b"mft1\0\0\0\0" + bytes((channels, 3, 2, 0)) + b"".join(map(_number, np.eye(3).ravel()))
    return head + channels * same + b"".join(map(bytes, corners)) + 3 * same


def cmyk() -> bytes:
    """Only black ink darkens: L* = 100 * (1 - K)."""
    return _profile(b"CMYK", b"Lab ", {b"A2B0": _table(8 * [(255, 128, 128), (0, 128, 128)])}, b"prtr")


def scanner() -> bytes:
    """RGB whose L* = 100 * B, with no way back."""
    return _profile(b"RGB ", b"Lab ", {b"A2B0": _table(4 * [(0, 128, 128), (255, 128, 128)])}, b"scnr")


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def seen(picture: Image.Image) -> np.ndarray:
    """The picture as a viewer that heeds its profile shows it: sRGB, (H, W, 3)."""
    rgb, profile = picture.convert("RGB"), picture.info.get("icc_profile")
    if profile:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        rgb = ImageCms.profileToProfile(rgb, opened, ImageCms.createProfile("sRGB"))
    return np.array(rgb).astype(int)


def adobe_as_srgb(level: tuple[int, int, int]) -> np.ndarray:
    """By the definitions of both spaces, without a library: levels of Adobe RGB as levels of sRGB."""
    linear = np.linalg.inv(SRGB) @ ADOBE @ ((np.array(level) / 255) ** (563 / 256))
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)

"""What is read of a photo's file and what is written of it, form by form."""

from __future__ import annotations

import io
import struct
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from tests.editing.profiles import adobe_rgb, cmyk, grey, scanner, seen, srgb
from tmgan.editing.photo_file import JPEG, read_photo
from tmgan.editing.saving import save_photo

THUMBNAIL = b"\xff\xd8\xff thumbnail \xff\xd9"
MAKE, ORIENTATION, TAKEN, WIDTH, HEIGHT, MAKER_NOTE = 0x010F, 0x0112, 0x9003, 0xA002, 0xA003, 0x927C
LATITUDE = {1: "N", 2: (52.0, 30.0, 0.0)}
XMP = b"<x:xmpmeta><dc:rights>me</dc:rights><xmp:Thumbnails>/9j/old</xmp:Thumbnails></x:xmpmeta>"


@pytest.fixture
def photo() -> Image.Image:
    noise = np.random.default_rng(0).integers(40, 210, (12, 18, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((144, 96), Image.Resampling.BICUBIC)


def exif(orientation: int = 1, maker_note: bytes = b"lens 7", size=(144, 96)) -> Image.Exif:
    data = Image.Exif()
    data[MAKE], data[ORIENTATION] = "Camera", orientation
    camera = {TAKEN: "2020:01:01 00:00:00", MAKER_NOTE: maker_note, WIDTH: size[0], HEIGHT: size[1]}
    data.get_ifd(ExifTags.IFD.Exif).update(camera)
    data.get_ifd(ExifTags.IFD.GPSInfo).update(LATITUDE)
    return data


def exif_with_thumbnail() -> bytes:
    """By hand, as cameras write it: a second directory, which Pillow does not write."""

    def entry(tag: int, value: int, kind: int = 4) -> bytes:
        return struct.pack("<HHII", tag, kind, 1, value)

    second = 8 + 2 + 12 + 4
    thumbnail = second + 2 + 24 + 4
    first = struct.pack("<H", 1) + entry(ORIENTATION, 6, kind=3) + struct.pack("<I", second)
    rest = struct.pack("<H", 2) + entry(0x0201, thumbnail) + entry(0x0202, len(THUMBNAIL)) + bytes(4)
    return b"Exif\0\0II*\0\x08\0\0\0" + first + rest + THUMBNAIL


def through(path, target) -> tuple[Image.Image, tuple[str, ...]]:
    """Read and written again, unchanged."""
    read = read_photo(path)
    notes = save_photo(read.with_pixels(read.rgb), target)
    return Image.open(target), read.notes + notes


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("source", ["jpg", "png", "webp", "tiff"])
def test_metadata_go_from_every_format_to_every_other(photo, tmp_path, source, ending):
    path = tmp_path / f"photo.{source}"
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    tags = Image.Exif()
    tags.load(exif(6).tobytes())
    if source == "tiff":
        tags[700] = XMP
    more = {"pnginfo": text} if source == "png" else {"xmp": XMP}
    photo.save(path, exif=tags, icc_profile=adobe_rgb(), dpi=(300, 300), lossless=True, **more)
    again, notes = through(path, tmp_path / f"again.{ending}")
    assert notes == () and again.size == (96, 144) and again.info["icc_profile"] == adobe_rgb()
    read = again.getexif()
    assert read[MAKE] == "Camera" and ORIENTATION not in read
    camera = read.get_ifd(ExifTags.IFD.Exif)
    assert camera[TAKEN] == "2020:01:01 00:00:00" and camera[MAKER_NOTE] == b"lens 7"
    assert (camera[WIDTH], camera[HEIGHT]) == (96, 144)
    assert read.get_ifd(ExifTags.IFD.GPSInfo) == LATITUDE
    assert again.info["xmp"] == XMP.replace(b"<xmp:Thumbnails>/9j/old</xmp:Thumbnails>", b"")
    if "webp" not in (source, ending):  # it has no resolution
        assert again.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_pictures_in_the_metadata_do_not_survive(photo, tmp_path):
    """They show the photo before the edit."""
    for data in (exif_with_thumbnail(), exif(6, b"preview " + THUMBNAIL).tobytes()):
        photo.save(tmp_path / "photo.jpg", exif=data)
        assert THUMBNAIL in (tmp_path / "photo.jpg").read_bytes()
        again, notes = through(tmp_path / "photo.jpg", tmp_path / "again.jpg")
        assert notes == () and again.size == (96, 144)
        assert THUMBNAIL not in (tmp_path / "again.jpg").read_bytes()


def test_damaged_exif_is_left_out_and_said(photo, tmp_path):
    photo.save(tmp_path / "photo.png", exif=b"Exif\0\0rubbish")
    read = read_photo(tmp_path / "photo.png")
    assert read.size == (144, 96) and "exif" not in read.info and "EXIF data are damaged" in read.notes[0]


def test_exif_that_pillow_cannot_write_does_not_cost_the_photo(photo, tmp_path, monkeypatch):
    """Values of a wrong type. The photo is then taken as it lies."""

    def fails(exif, offset=8):
        raise struct.error("wrong type")

    photo.save(tmp_path / "photo.jpg", exif=exif(6))
    monkeypatch.setattr(Image.Exif, "tobytes", fails)
    read = read_photo(tmp_path / "photo.jpg")
    assert read.size == (144, 96) and "wrong type" in read.notes[0]


def test_structure_of_a_tiff_is_no_metadata(photo, tmp_path):
    photo.save(tmp_path / "photo.tiff", compression="tiff_lzw", exif=exif())
    again, _ = through(tmp_path / "photo.tiff", tmp_path / "again.jpg")
    assert {MAKE} <= set(again.getexif()) <= {MAKE, 0x8769, 0x8825, 282, 283, 296}


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    "how",
    [
        {"quality": 75},
        {"quality": 60, "subsampling": 0},
        {"quality": 85, "keep_rgb": True},
        {"qtables": [[2 + 4 * (k // 8) for k in range(64)]], "subsampling": 0},  # finer across than down
    ],
)
def test_a_jpeg_is_as_coarse_as_it_was(photo, tmp_path, how, orientation):
    """So its pixels hardly change. In 11 photos: by 0.006 to 0.29 levels in the mean; at quality 95, 0.09 to 0.68."""
    hue, grain = photo.resize((3, 2)).resize(photo.size, Image.Resampling.BICUBIC), photo.convert("L").convert("RGB")
    photo = Image.blend(hue, grain, 0.5)  # as photos are, whose colours vary less than their brightness
    photo.save(tmp_path / "photo.jpg", exif=exif(orientation), progressive=True, **how)
    read = read_photo(tmp_path / "photo.jpg")
    again, _ = through(tmp_path / "photo.jpg", tmp_path / "again.jpg")
    moved = np.abs(np.array(again).astype(int) - np.array(read.rgb)).mean()
    if orientation == 1:
        assert again.quantization == Image.open(tmp_path / "photo.jpg").quantization
        assert again.layer == Image.open(tmp_path / "photo.jpg").layer
    assert again.info["progressive"] == 1
    plain = read.with_pixels(read.rgb)
    del plain.info[JPEG]
    save_photo(plain, tmp_path / "plain.jpg")
    otherwise = np.abs(np.array(Image.open(tmp_path / "plain.jpg")).astype(int) - np.array(read.rgb)).mean()
    assert moved < 0.15 and moved < otherwise / 2


def test_what_turning_makes_of_halved_colours(photo, tmp_path):
    """Halved across is halved down once it is turned, which Pillow does not write: they are then kept whole."""
    for orientation, sampling in ((1, 1), (6, 0)):
        photo.save(tmp_path / "photo.jpg", subsampling="4:2:2", exif=exif(orientation))
        assert read_photo(tmp_path / "photo.jpg").info[JPEG]["subsampling"] == sampling


def test_a_grey_jpeg_is_as_coarse_as_it_was(photo, tmp_path):
    photo.convert("L").save(tmp_path / "photo.jpg", quality=70)
    again, _ = through(tmp_path / "photo.jpg", tmp_path / "again.jpg")
    before = np.array(Image.open(tmp_path / "photo.jpg").convert("RGB")).astype(int)
    assert again.mode == "RGB" and np.abs(np.array(again) - before).mean() < 0.1
    assert [component[1:3] for component in again.layer] == 3 * [(1, 1)]  # an edit's colours are kept whole


def test_another_photo_as_jpeg_is_fine(photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    again, _ = through(tmp_path / "photo.png", tmp_path / "again.jpg")
    photo.save(tmp_path / "fine.jpg", quality=95, subsampling="4:4:4")
    assert again.tobytes() == Image.open(tmp_path / "fine.jpg").tobytes()


def test_grey_and_cmyk_are_converted_by_their_profile(photo, tmp_path):
    """L* = 100 * (1 - 128 / 255) is level 118 of sRGB, and linear 128 is level 188; by Pillow alone both are 127."""
    Image.new("CMYK", (64, 64), (9, 9, 9, 128)).save(tmp_path / "cmyk.tiff", icc_profile=cmyk())
    Image.new("L", (64, 64), 128).save(tmp_path / "grey.png", icc_profile=grey(1.0))
    for name, level in (("cmyk.tiff", 118), ("grey.png", 188)):
        read = read_photo(tmp_path / name)
        assert read.rgb.getpixel((9, 9)) == (level,) * 3 and read.colour.is_srgb and read.notes == ()
        again, _ = through(tmp_path / name, tmp_path / "again.png")
        assert "icc_profile" not in again.info


@pytest.mark.parametrize(
    ("mode", "profile", "reason"),
    [
        ("RGB", b"junk", "is damaged"),
        ("RGB", cmyk(), "describes CMYK, the pixels are RGB"),
        ("L", srgb(), "describes RGB, the pixels are GRAY"),
        ("CMYK", srgb()[:16] + b"CMYK" + srgb()[20:], "is damaged"),
        ("P", grey(1.0), "describes GRAY, the pixels are RGB"),
    ],
)
def test_a_profile_that_does_not_fit_is_left_out_and_said(photo, tmp_path, mode, profile, reason):
    path = tmp_path / "photo.tiff"
    photo.convert(mode).save(path, icc_profile=profile)
    again, notes = through(path, tmp_path / "again.png")
    assert len(notes) == 1 and str(path) in notes[0] and reason in notes[0]
    assert "icc_profile" not in again.info and again.tobytes() == photo.convert(mode).convert("RGB").tobytes()


def test_a_profile_that_leads_only_one_way_is_kept(photo, tmp_path):
    photo.save(tmp_path / "photo.png", icc_profile=scanner())
    again, notes = through(tmp_path / "photo.png", tmp_path / "again.png")
    assert again.info["icc_profile"] == scanner() and again.tobytes() == photo.tobytes()
    assert "cannot be converted to. It is kept" in notes[0]


def every_form_of_transparency(photo: Image.Image) -> dict[str, Image.Image]:
    alpha = Image.new("L", photo.size, 255)
    alpha.paste(0, (0, 0, 30, 96))
    rgba, la, colour_key = photo.copy(), photo.convert("L"), photo.copy()
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    colour_key.paste((1, 2, 3), (0, 0, 30, 96))
    colour_key.info["transparency"] = (1, 2, 3)
    palette = photo.quantize(16)
    palette.paste(5, (0, 0, 30, 96))
    palette.info["transparency"] = 5
    return {"RGBA": rgba, "LA": la, "colour key": colour_key, "palette": palette}


@pytest.mark.parametrize("form", ["RGBA", "LA", "colour key", "palette"])
def test_transparency_in_every_form(photo, tmp_path, form):
    every_form_of_transparency(photo)[form].save(tmp_path / "photo.png")
    read = read_photo(tmp_path / "photo.png")
    alpha = np.array(read.alpha)
    assert (alpha[:, :30] == 0).all() and (alpha[:, 30:] == 255).mean() > (0.8 if form == "palette" else 0.99)
    assert (np.array(read.over_white())[:, :30] == 255).all()
    again, _ = through(tmp_path / "photo.png", tmp_path / "again.png")
    stored = Image.open(tmp_path / "photo.png").convert("RGBA")
    assert again.mode == "RGBA" and again.tobytes() == stored.tobytes()


@pytest.mark.parametrize("ending", ["jpg", "bmp"])
def test_a_format_without_transparency_says_so(photo, tmp_path, ending):
    every_form_of_transparency(photo)["RGBA"].save(tmp_path / "photo.png")
    again, notes = through(tmp_path / "photo.png", tmp_path / f"again.{ending}")
    assert "holds no transparency" in notes[0] and f"again.{ending}" in notes[0]
    assert again.mode == "RGB" and (np.array(again)[:, :24] > 250).all()
    opaque = photo.copy()
    opaque.putalpha(255)
    assert save_photo(opaque, tmp_path / f"again.{ending}") == ()


def test_a_format_without_profiles_gets_srgb(photo, tmp_path):
    photo.save(tmp_path / "photo.png", icc_profile=adobe_rgb())
    again, notes = through(tmp_path / "photo.png", tmp_path / "again.bmp")
    assert "BMP holds no colour profile" in notes[0]
    assert np.abs(seen(again) - seen(Image.open(tmp_path / "photo.png"))).max() <= 1
    photo.save(tmp_path / "photo.png", icc_profile=srgb())
    assert through(tmp_path / "photo.png", tmp_path / "again.bmp")[1] == ()


def test_what_is_too_long_for_a_jpeg_is_left_out_and_said(photo, tmp_path):
    picture = photo.copy()
    picture.info = {"xmp": bytes(70000), "exif": bytes(70000)}
    notes = save_photo(picture, tmp_path / "again.jpg")
    assert [word in " ".join(notes) for word in ("EXIF data are too long", "XMP data are too long")] == [True] * 2
    assert Image.open(tmp_path / "again.jpg").size == photo.size


def test_what_cannot_be_written_is_a_sentence(photo, tmp_path):
    with pytest.raises(ValueError, match=r"again.xyz: a photo is written to a name that ends in"):
        save_photo(photo, tmp_path / "again.xyz")
    with pytest.raises(ValueError, match=r"wide.webp cannot be written as WEBP .*; .png holds any"):
        save_photo(Image.new("RGB", (20000, 1)), tmp_path / "wide.webp")
    with pytest.raises(ValueError, match=r"none/again.png cannot be written: there is no folder"):
        save_photo(photo, tmp_path / "none" / "again.png")


def test_pillows_own_save_keeps_profile_and_transparency(photo):
    picture = every_form_of_transparency(photo)["RGBA"]
    picture.info["icc_profile"] = adobe_rgb()
    read, buffer = read_photo(picture), io.BytesIO()
    read.with_pixels(read.rgb).save(buffer, "PNG")
    again = Image.open(buffer)
    assert again.mode == "RGBA" and again.info["icc_profile"] == adobe_rgb()


def test_threads_that_read_leave_the_filters_of_warnings_as_they_were(tmp_path):
    """Each reader changes them for a moment; together they left "error" behind, for the whole process."""
    Image.new("RGB", (144, 96)).save(tmp_path / "a.jpg", exif=exif())
    before, every = list(warnings.filters), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read_photo, 60 * [tmp_path / "a.jpg"]))
        assert list(warnings.filters) == before
    finally:
        sys.setswitchinterval(every)
        warnings.filters[:] = before


def test_xmp_takes_time_by_its_length(photo, tmp_path):
    start = time.process_time()
    photo.save(tmp_path / "x.webp", xmp=b"<xmp:Thumbnails>" * 200_000)
    assert read_photo(tmp_path / "x.webp").info["xmp"].startswith(b"<xmp:Thumb")
    assert time.process_time() - start < 10  # for each beginning the end was looked for: hours

"""Photos that cannot be used: the message names the file, says what it is, and what helps."""

from __future__ import annotations

import io
import warnings

import pytest
from PIL import Image

from tests.data.data_folders import textured
from tmgan.data.decode import BadImage, decode, open_photo

SIZE = (40, 36)


def refusal(path):
    with pytest.raises(BadImage) as error:
        open_photo(path, True)
    assert str(error.value).startswith(str(path))
    return str(error.value).removeprefix(f"{path} ")


def ftyp(major, *others):
    return b"\0\0\0\x18ftyp" + major + b"\0\0\0\0" + b"".join(others) + bytes(40)


def jpeg():
    file = io.BytesIO()
    textured(SIZE, 0).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be decoded, it is empty: get it again"),
        (ftyp(b"heic", b"mif1", b"heic"), "is a HEIC picture, which Pillow cannot read: save it as JPEG or PNG"),
        (ftyp(b"mif1", b"mif1", b"heix"), "is a HEIC picture"),
        (b"\n<!DOCTYPE html><html><head>", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run `git lfs pull`"),
        (b"just some bytes", "cannot be decoded, it is no picture that can be read"),
        (b"\x89PNG\r\n" + bytes(99), "cannot be decoded, it is damaged: get it again"),
        (b"II*\0" + bytes(99), "it is damaged or a TIFF of a kind that Pillow cannot read: save it as PNG"),
        (jpeg()[:-300], "cannot be decoded (image file is truncated"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, content, message):
    (tmp_path / "x.jpg").write_bytes(content)
    assert message in refusal(tmp_path / "x.jpg")


def test_avif_is_named_where_pillow_cannot_read_it(tmp_path, monkeypatch):
    (tmp_path / "x.jpg").write_bytes(ftyp(b"avif", b"mif1", b"miaf"))
    monkeypatch.setattr("PIL.AvifImagePlugin.SUPPORTED", False)
    assert "is an AVIF picture" in refusal(tmp_path / "x.jpg")


def test_missing_files_folders_and_small_pictures_are_named(tmp_path):
    assert refusal(tmp_path / "x.jpg") == "is missing"
    (tmp_path / "d.jpg").mkdir()
    assert refusal(tmp_path / "d.jpg") == "cannot be opened (Is a directory)"
    textured((31, 80), 0).save(tmp_path / "s.png")
    assert f"{tmp_path / 's.png'}: 31x80 pixels are too few" in refusal(tmp_path / "s.png")
    assert decode(tmp_path / "s.png", True).size == (31, 80)


def test_large_pictures_are_read_in_silence_and_larger_ones_named(tmp_path, monkeypatch):
    textured(SIZE, 0).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # of 1440 pixels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_photo(tmp_path / "x.png", True).size == SIZE
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)
    Image.new("1", (14000, 13000)).save(tmp_path / "huge.png")
    assert refusal(tmp_path / "huge.png") == "has 182 megapixels, and at most 178 are read: scale it down"


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.png", "x.tif"])
def test_files_of_several_pictures_are_refused(tmp_path, name):
    textured(SIZE, 0).save(tmp_path / name, save_all=True, append_images=[textured(SIZE, 1)])
    assert refusal(tmp_path / name) == "holds 2 pictures: save the one that is meant by itself"
    textured(SIZE, 0).save(tmp_path / name)
    assert open_photo(tmp_path / name, True).size == SIZE


def test_phones_write_a_photo_and_its_preview(tmp_path):
    textured(SIZE, 0).save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[textured(SIZE, 1)])
    textured(SIZE, 0).save(tmp_path / "alone.jpg")
    assert open_photo(tmp_path / "x.jpg", True).tobytes() == open_photo(tmp_path / "alone.jpg", True).tobytes()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_transparent_areas_have_no_colour(tmp_path, mode):
    """By an alpha channel, or by a colour that stands for "nothing"."""
    picture = textured(SIZE, 0, mode)
    opaque = picture.convert("RGB").tobytes()
    options = {}
    if "A" in mode:
        picture.putalpha(255)
    picture.save(tmp_path / "opaque.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_photo(tmp_path / "opaque.png", True).tobytes() == opaque
    if "A" in mode:
        alpha = Image.new("L", SIZE, 255)
        alpha.putpixel((0, 0), 254)
        picture.putalpha(alpha)
    else:
        options = {"transparency": picture.getpixel((5, 5))}
    picture.save(tmp_path / "x.png", **options)
    assert refusal(tmp_path / "x.png").startswith("has transparent areas, whose colour is unknown: lay it over")
    assert decode(tmp_path / "x.png", True).has_transparency_data  # editing keeps it


def test_a_transparent_colour_that_does_not_occur_is_fine(tmp_path):
    picture = Image.new("P", SIZE, 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.save(tmp_path / "x.png", transparency=bytes([0, 255]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_photo(tmp_path / "x.png", True).getpixel((0, 0)) == (10, 20, 30)


def test_no_other_program_reads_a_picture(tmp_path, monkeypatch):
    """Pillow has Ghostscript run EPS, whatever the file is called."""
    ran = []
    monkeypatch.setattr("subprocess.check_call", lambda *arguments, **options: ran.append(arguments))
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **options: ran.append(arguments))
    Image.new("RGB", (40, 40)).save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "x.jpg")
    with pytest.raises(BadImage, match="no picture that can be read"):
        decode(tmp_path / "x.jpg", exif=True)
    assert ran == []

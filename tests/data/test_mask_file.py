"""Masks in the forms that people have them: 255 on the object, or a refusal that names the file and what it holds."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, features

from tmgan.data import mask_file
from tmgan.data.decode import BadImage
from tmgan.data.levels import is_lossy
from tmgan.data.mask_file import open_map, open_mask

OBJECT = np.zeros((8, 8), np.uint8)
OBJECT[2:6, 3:7] = 1


def read(folder, image, name="m.png", **options):
    image.save(folder / name, **options)
    return np.array(open_mask(folder / name, image.size, True))


def refusal(folder, image, name="m.png", **options):
    with pytest.raises(BadImage) as error:
        read(folder, image, name, **options)
    assert str(error.value).startswith(str(folder / name))
    return str(error.value)


def grey(*levels):
    """8x8 with these levels in this order of frequency: the first fills what the others leave."""
    pixels = np.full(64, levels[0], np.uint8)
    pixels[: len(levels) - 1] = levels[1:]
    return Image.fromarray(pixels.reshape(8, 8))


def areas(*levels):
    """Stripes four pixels wide."""
    return Image.fromarray(np.tile(np.array(levels, np.uint8).repeat(4), (16, 1)))


def paint(index, colours):
    image = Image.fromarray(OBJECT * np.uint8(index))
    image.putpalette([value for colour in colours for value in colour])
    return image


def rgba(below, alpha):
    return Image.fromarray(np.dstack([np.full((8, 8, 3), below, np.uint8), alpha.astype(np.uint8)]))


def blue():
    return Image.fromarray(np.dstack([0 * OBJECT, 0 * OBJECT, 255 * OBJECT]))


VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
FORMS = {
    "0 and 255": Image.fromarray(OBJECT * 255),
    "0 and 1": Image.fromarray(OBJECT),
    "0 and 3": Image.fromarray(OBJECT * 3),
    "2 and 254": Image.fromarray(OBJECT * 252 + 2),
    "one bit": Image.fromarray(OBJECT * 255).convert("1"),
    "16 bits": Image.fromarray(OBJECT.astype(np.uint16) * 65535),
    "16 bits, a label": Image.fromarray(OBJECT.astype(np.uint16) * 300),
    "VOC palette, index 1": paint(1, VOC),
    "VOC palette, index 3": paint(3, VOC),
    "reduced colours, the object first": paint(1, [(255, 0, 0), (0, 0, 0)]).point([1, 0] + [0] * 254),
    "palette of greys, index 0 is white": Image.fromarray(1 - OBJECT, "L"),
    "white below alpha": rgba(255, OBJECT * 255),
    "black below alpha": rgba(0, OBJECT * 255),
    "grey and alpha": Image.merge("LA", [Image.new("L", (8, 8), 255), Image.fromarray(OBJECT * 255)]),
    "opaque alpha": Image.fromarray(OBJECT * 255).convert("RGBA"),
    "opaque grey and alpha": Image.fromarray(OBJECT * 255).convert("LA"),
    "RGB": Image.fromarray(OBJECT * 255).convert("RGB"),
    "RGB, nearly grey": Image.fromarray(np.dstack([OBJECT * 250, OBJECT * 255, OBJECT * 247])),
    "blue on black": blue(),
    "blue of 1 on black": Image.fromarray(np.dstack([0 * OBJECT, 0 * OBJECT, OBJECT])),
    "red of 2 on black, in a palette": paint(1, [(0, 0, 0), (2, 0, 0)]),
    "darkest blue on black": Image.fromarray(np.dstack([0 * OBJECT, 0 * OBJECT, 9 * OBJECT])),
}
FORMS["palette of greys, index 0 is white"].putpalette([255, 255, 255, 0, 0, 0])


@pytest.mark.parametrize("form", FORMS)
def test_the_object_is_white(tmp_path, form):
    assert np.array_equal(read(tmp_path, FORMS[form]), OBJECT * 255)


def test_float_pictures_have_two_values_too(tmp_path):
    assert np.array_equal(read(tmp_path, Image.fromarray(OBJECT.astype(np.float32)), "m.tif"), OBJECT * 255)
    half = refusal(tmp_path, Image.fromarray(np.full((8, 8), 0.5, np.float32)), "m.tif")
    assert "holds the value 0.5 everywhere" in half
    nan = np.full((8, 8), np.nan, np.float32)
    assert "more than 8 bits" in refusal(tmp_path, Image.fromarray(nan), "m.tif")


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGB", "RGBA"])
@pytest.mark.parametrize("level", [0, 255])
def test_empty_and_full(tmp_path, mode, level):
    image = Image.new("RGB" if mode == "RGBA" else mode, (8, 8), (level,) * 3 if mode.startswith("RGB") else level)
    if mode == "RGBA":
        image.putalpha(255)
    if mode == "P":
        image.putpalette([0, 0, 0] + [200, 0, 0] * 255)
    assert (read(tmp_path, image) == level).all()


def test_empty_by_alpha_and_full_by_one(tmp_path):
    assert (read(tmp_path, rgba(255, 0 * OBJECT)) == 0).all()  # nothing was painted
    assert (read(tmp_path, grey(1)) == 255).all()
    assert (read(tmp_path, Image.fromarray(np.full((8, 8), 65535, np.uint16))) == 255).all()


def test_a_trace_of_transparency_is_no_mask(tmp_path):
    picture = Image.fromarray(OBJECT * 255).convert("RGBA")
    picture.putalpha(Image.fromarray(np.where(OBJECT == 1, 254, 255).astype(np.uint8)))
    assert np.array_equal(read(tmp_path, picture), OBJECT * 255)


def test_a_transparent_colour_is_the_ground(tmp_path):
    light = Image.fromarray(255 - OBJECT)
    for image, transparent in ((light, 255), (paint(2, VOC), 0), (blue(), (0, 0, 0))):
        assert np.array_equal(read(tmp_path, image, transparency=transparent), OBJECT * 255)


@pytest.mark.parametrize(
    "levels",
    [
        (0, 51, 204, 255),  # shares of five annotators
        (51, 102, 204),
        (0, 255, 64, 128, 191),  # four samples per pixel
        (255, 0, 63, 127, 191),  # cut off, not rounded
        (0, 255, 85, 170),
        (0, *range(255, 100, -7)),  # more than 16
        (0, 255, 21, 28, 57, 85, 113),  # averages of what lay there before it was made smaller
        (0, 254, 255),
    ],
)
def test_soft_edges_stay(tmp_path, levels):
    assert np.array_equal(read(tmp_path, grey(*levels)), np.array(grey(*levels)))


def test_jpeg_of_two_values_is_soft(tmp_path):
    jagged = Image.fromarray(np.kron(OBJECT, np.ones((5, 5), np.uint8)) * 255)
    mask = read(tmp_path, jagged, "m.jpg", quality=98)
    assert len(np.unique(mask)) >= 3 and np.abs(mask.astype(int) - np.array(jagged)).max() < 40
    assert np.array_equal(read(tmp_path, jagged.convert("RGB"), "m.jpg", quality=98), mask)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (areas(0, 3, 255), "holds the labels 0, 3 and 255; a mask has two values"),
        (areas(0, 128, 255), "holds the labels 0, 128 and 255"),  # a trimap
        (areas(0, 17, 34, 255), "holds the labels 0, 17, 34 and 255"),  # 4 of 16 steps
        (areas(0, 0, 0, 85, 170, 255), "holds the labels 0, 85, 170 and 255"),  # of 2 bits, made larger
        (areas(*[0] * 19, *range(1, 19), *[255] * 3), "holds 20 grey levels from 0 to 255, as photos, labels and"),
        (areas(*[0] * 9, *range(1, 9), 255), "holds the labels 0, 1, 2, 3, 4, 5 and 4 more"),
        (grey(0, *range(1, 12)), "holds the labels 0, 1, 2, 3, 4, 5 and 6 more"),
        (grey(128, 0, 64, 191, 255), "holds the labels 0, 64, 128, 191 and 255"),  # mostly in between: no edges
        (grey(200), "holds the value 200 everywhere"),
        (Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4), "holds 64 grey levels from 0 to 252"),
        (Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) // 3), "holds 22 grey levels from 0 to 21"),
        (Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)), "more than 8 bits per channel"),
        (Image.fromarray(np.full((8, 8), 9, np.uint16)), "holds the value 9 everywhere"),
        (rgba(255, OBJECT * 100 + np.eye(8, dtype=np.uint8)), "in its alpha channel the labels 0, 1, 100 and 101"),
        (Image.new("RGB", (8, 8), (255, 0, 0)), "holds one colour, not one on black"),
        (Image.fromarray(np.dstack([OBJECT * 90, 0 * OBJECT, 255 - 0 * OBJECT])), "holds 2 colours, not one on black"),
    ],
)
def test_what_says_nothing_is_refused(tmp_path, image, message):
    assert message in refusal(tmp_path, image)


def test_labels_of_a_palette_are_refused(tmp_path):
    three = paint(3, VOC)
    three.putpixel((0, 0), 1)
    assert "holds the labels 0, 1 and 3 of a palette" in refusal(tmp_path, three)
    two = paint(2, VOC)
    two = two.point([1, 1, 2, 3] + [0] * 252)
    assert "holds two colours of a palette, and not which is ground" in refusal(tmp_path, two)
    void = paint(255, [(224, 224, 192)] * 256)
    void.putpalette([0, 0, 0] + [224, 224, 192] * 255)
    assert "only the border that Pascal VOC draws" in refusal(tmp_path, void)
    assert "holds one colour of a palette" in refusal(tmp_path, paint(0, [(255, 0, 0)]))
    assert (read(tmp_path, paint(0, VOC)) == 0).all()


def test_reduced_colours_are_numbered_as_their_program_likes(tmp_path):
    """GIF, and Pillow's quantize: 0 is the object as often as not."""
    red = Image.fromarray(np.dstack([255 * OBJECT, 0 * OBJECT, 0 * OBJECT]))
    for image, name in ((red, "m.gif"), (red.quantize(2), "m.png"), (red.quantize(2, method=1), "m.png")):
        assert np.array_equal(read(tmp_path, image, name), OBJECT * 255)


def test_labels_without_a_ground_are_refused(tmp_path):
    for first, second in ((1, 2), (15, 255), (100, 101)):  # pets' trimaps, and VOC where there is only a border
        assert f"labels {first} and {second}, and not what is ground" in refusal(tmp_path, grey(first, second))
    assert "labels 1 and 300" in refusal(tmp_path, Image.fromarray((OBJECT * np.uint16(299) + 1).astype(np.uint16)))


@pytest.mark.parametrize("more", [{}, {"icc_profile": b"odd"}], ids=["pixels first", "pixels after other chunks"])
def test_labels_in_lossless_webp_are_no_noise(tmp_path, more):
    for label in (1, 2):
        image = Image.fromarray(OBJECT * label)
        assert np.array_equal(read(tmp_path, image, "m.webp", lossless=True, **more), OBJECT * 255)
    assert "holds the labels 0, 128 and 255" in refusal(tmp_path, areas(0, 128, 255), "m.webp", lossless=True)


@pytest.mark.parametrize("levels", [(0, 1), (1,), (3, 1, 2), (255, 254), (253,)])
def test_labels_that_may_be_noise_are_refused(tmp_path, monkeypatch, levels):
    monkeypatch.setattr(mask_file, "is_lossy", lambda *_: True)
    assert "labels, or one level that its compression has changed" in refusal(tmp_path, grey(*levels))


def test_what_is_read_of_lossy_files(tmp_path, monkeypatch):
    monkeypatch.setattr(mask_file, "is_lossy", lambda *_: True)
    for level in (0, 255):
        assert (read(tmp_path, grey(level)) == level).all()
    edges = grey(0, *[255] * 20, 1, 2, 254)
    assert np.array_equal(read(tmp_path, edges), edges)
    assert "holds the labels 0, 128 and 255" in refusal(tmp_path, areas(0, 128, 255))


@pytest.mark.parametrize(
    ("name", "options", "lossy"),
    [
        ("m.png", {}, False),
        ("m.gif", {}, False),
        ("m.tif", {}, False),
        ("m.tif", {"compression": "jpeg"}, True),
        ("m.jpg", {}, True),
        ("m.webp", {"lossless": True}, False),
        ("m.webp", {"quality": 80}, True),
        pytest.param(
            "m.avif",
            {},
            True,
            marks=pytest.mark.skipif(".avif" not in Image.registered_extensions(), reason="this Pillow has no AVIF"),
        ),
        pytest.param(
            "m.jp2",
            {},
            True,
            marks=pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow has no JPEG 2000"),
        ),
    ],
)
def test_which_files_may_be_a_little_off(tmp_path, name, options, lossy):
    grey(0, 255).resize((64, 64)).save(tmp_path / name, **options)
    with Image.open(tmp_path / name) as image:
        assert is_lossy(image, tmp_path / name) == lossy


def test_lossy_webp_is_soft(tmp_path):
    jagged = Image.fromarray(np.kron(OBJECT, np.ones((5, 5), np.uint8)) * 255)
    mask = read(tmp_path, jagged, "m.webp", quality=50)
    assert len(np.unique(mask)) > 2 and np.abs(mask.astype(int) - np.array(jagged)).max() < 60
    picture = Image.merge("RGBA", [Image.new("L", jagged.size, 7)] * 3 + [jagged])
    assert np.array_equal(read(tmp_path, picture, "m.webp", quality=50), jagged)  # alpha is kept exactly


def packed(levels, bits):
    """Rows of a PNG with this many bits per pixel."""
    some = levels.astype(np.uint8).reshape(8, -1, 8 // bits)
    rows = sum(some[:, :, k] << (8 - bits * (k + 1)) for k in range(8 // bits))
    return [row.astype(np.uint8).tobytes() for row in rows]


def png(path, bits, kind, rows, transparency=b""):
    """A PNG of any depth; kind 0: grey, 2: RGB, 4: grey and alpha."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = struct.pack(">IIBBBBB", 8, 8, bits, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", size), (b"tRNS", transparency), (b"IDAT", data), (b"IEND", b"")]
    if not transparency:
        chunks.pop(1)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks))


def mask_of(path):
    return np.array(open_mask(path, (8, 8), True))


@pytest.mark.parametrize("kind", [2, 4])
def test_of_16_bits_in_colour_pillow_keeps_8(tmp_path, kind):
    """Labels, or 255 of 65535, vanish."""
    for level, fits in ((1, False), (255, False), (256, False), (65535, True)):
        channels = [OBJECT.astype(">u2") * level] * {2: 3, 4: 1}[kind]
        if kind == 4:
            channels.append(np.full((8, 8), 65535, ">u2"))
        png(tmp_path / "m.png", 16, kind, [row.astype(">u2").tobytes() for row in np.dstack(channels)])
        if fits:
            assert np.array_equal(mask_of(tmp_path / "m.png"), OBJECT * 255)
        else:
            with pytest.raises(BadImage, match="16 bits per channel, and the upper 8, which are read, hold no white"):
                mask_of(tmp_path / "m.png")


@pytest.mark.parametrize("bits", [2, 4])
def test_labels_of_few_bits_are_no_greys(tmp_path, bits):
    def write(levels):
        png(tmp_path / "m.png", bits, 0, packed(levels, bits))

    for level in (1, 2**bits - 1):
        write(OBJECT * level)
        assert np.array_equal(mask_of(tmp_path / "m.png"), OBJECT * 255)
    write(np.arange(64).reshape(8, 8) % 4)
    with pytest.raises(BadImage, match="holds the labels 0, 1, 2 and 3;"):
        mask_of(tmp_path / "m.png")
    labels = open_map(tmp_path / "m.png", (8, 8), True, labels=True)
    assert np.array_equal(labels, np.arange(64).reshape(8, 8) % 4)


def test_a_tiff_that_counts_from_white_is_refused(tmp_path):
    Image.fromarray(OBJECT.astype(np.uint16) * 300).save(tmp_path / "m.tif")
    data = (tmp_path / "m.tif").read_bytes()
    entry = struct.pack("<HHIH", 262, 3, 1, 1)
    assert data.count(entry) == 1
    (tmp_path / "m.tif").write_bytes(data.replace(entry, struct.pack("<HHIH", 262, 3, 1, 0)))
    with pytest.raises(BadImage, match="counts from white to black"):
        mask_of(tmp_path / "m.tif")


def test_ids_in_colour_are_refused(tmp_path):
    """Red + 256 green, as instance ids are written."""
    ids = Image.fromarray(np.dstack([OBJECT + np.eye(8, dtype=np.uint8), 0 * OBJECT, 0 * OBJECT]))
    assert "holds 3 colours, not one on black" in refusal(tmp_path, ids)
    of_palette = paint(1, [(0, 0, 0), (1, 0, 0), (2, 0, 0)])
    of_palette.putpixel((0, 0), 2)
    assert "holds the labels 0, 1 and 2 of a palette" in refusal(tmp_path, of_palette)


def test_labels_without_a_palette_count(tmp_path):
    """numpy's labels in a picture of mode P that was given no colours: all are black."""
    for labels in (OBJECT, OBJECT * 5):
        for name in ("m.png", "m.tif", "m.gif"):
            image = Image.frombytes("P", (8, 8), labels.tobytes())
            assert np.array_equal(read(tmp_path, image, name), OBJECT * 255), name
    three = Image.frombytes("P", (8, 8), (OBJECT + np.eye(8, dtype=np.uint8)).tobytes())
    assert "holds the labels 0, 1 and 2" in refusal(tmp_path, three, "m.tif")  # as PNG, Pillow drops bits
    assert (read(tmp_path, Image.frombytes("P", (8, 8), bytes([1] * 64)), "m.tif") == 255).all()
    light_first = Image.new("P", (8, 8), 1)
    light_first.putpalette([255, 255, 255, 0, 0, 0])
    assert (read(tmp_path, light_first) == 0).all()
    twice_black = Image.fromarray(OBJECT, "P")
    twice_black.putpalette([0, 0, 0, 0, 0, 0, 255, 255, 255])
    assert "labels 0 and 1 of a palette that shows all of them in black" in refusal(tmp_path, twice_black)
    short = Image.fromarray(OBJECT * 3, "P")
    short.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    assert "labels 0 and 3 of a palette that shows all" in refusal(tmp_path, short)


def test_two_masks_in_one_file_are_refused(tmp_path):
    picture = Image.fromarray(OBJECT * 255).convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 8, 1))
    assert "it shows two masks" in refusal(tmp_path, picture)
    disc = Image.new("L", (64, 64))
    ImageDraw.Draw(disc).ellipse((12, 12, 52, 52), fill=255)
    soft = disc.filter(ImageFilter.GaussianBlur(3)).convert("RGBA")  # one in five pixels is in between
    soft.paste((0, 0, 0, 0), (0, 0, 64, 6))
    assert "it shows two masks" in refusal(tmp_path, soft)


@pytest.mark.parametrize(
    ("below", "alpha"),
    [
        (OBJECT[:, :, None] * np.uint8([255, 255, 255]), 0 * OBJECT),  # alpha was forgotten
        (OBJECT[:, :, None] * np.uint8([200, 0, 0]), 255 * (np.arange(64).reshape(8, 8) >= 8)),  # a margin
        (OBJECT[:, :, None] * np.uint8([255, 255, 255]), 254 * (np.arange(64).reshape(8, 8) >= 8)),
    ],
)
def test_two_masks_in_other_forms(tmp_path, below, alpha):
    image = Image.fromarray(np.dstack([below, alpha]).astype(np.uint8))
    words = "shows two masks" if alpha.any() else "is transparent everywhere, with more than one colour below"
    assert words in refusal(tmp_path, image)


def test_few_white_pixels_are_a_mask_too(tmp_path):
    few = np.zeros((64, 64), np.uint8)
    few[30:34, 30:34] = 255
    image = Image.fromarray(few).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 64, 6))
    assert "it shows two masks" in refusal(tmp_path, image)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_transparent_level_of_a_png_is_the_ground(tmp_path, bits):
    """tRNS holds it as stored; black on transparent white."""
    white = 2**bits - 1
    png(tmp_path / "m.png", bits, 0, packed((1 - OBJECT) * white, bits), struct.pack(">H", white))
    assert np.array_equal(mask_of(tmp_path / "m.png"), OBJECT * 255)


def test_a_transparent_level_of_16_bits_is_refused(tmp_path):
    pixels = ((1 - OBJECT) * np.uint16(65535)).astype(np.uint16)
    assert "has a transparent level and more" in refusal(tmp_path, Image.fromarray(pixels), transparency=65535)


def test_edges_of_what_was_made_smaller_are_soft(tmp_path):
    """By averages over a number of pixels that is not whole; and blurred, and both saved as JPEG."""
    large = Image.new("L", (292, 292))
    ImageDraw.Draw(large).polygon([(40, 60), (250, 90), (200, 260), (80, 240)], fill=255)
    small = large.resize((96, 96), Image.Resampling.BOX)
    for image in (small, large.filter(ImageFilter.GaussianBlur(3))):
        assert np.array_equal(read(tmp_path, image), image)
        for quality in (30, 75, 95):
            mask = read(tmp_path, image, "m.jpg", quality=quality)
            with Image.open(tmp_path / "m.jpg") as jpeg:
                assert np.array_equal(mask, jpeg)
            assert np.array_equal(read(tmp_path, Image.fromarray(mask)), mask)  # and that as PNG


def test_a_photo_that_was_cut_out_is_its_outline(tmp_path):
    """Black and white, but not only: a mug with a red handle."""
    mug = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    mug.paste((255, 255, 255, 255), (10, 10, 50, 60))
    mug.paste((0, 0, 0, 255), (20, 20, 40, 40))
    mug.paste((200, 0, 0, 255), (50, 20, 60, 40))
    assert np.array_equal(read(tmp_path, mug), np.array(mug.getchannel("A")))


def test_an_animation_and_another_size_are_refused(tmp_path):
    assert "holds 2 pictures" in refusal(
        tmp_path, blue(), "m.gif", save_all=True, append_images=[Image.new("L", (8, 8))]
    )
    blue().save(tmp_path / "m.png")
    with pytest.raises(BadImage, match=r"m.png has 8x8 pixels, its image 9x8"):
        open_mask(tmp_path / "m.png", (9, 8), True)


def test_label_maps_are_unchanged(tmp_path):
    for image in (grey(0, 3, 100), paint(3, VOC)):
        image.save(tmp_path / "m.png")
        labels = open_map(tmp_path / "m.png", (8, 8), True, labels=True)
        assert labels.mode == image.mode and labels.tobytes() == image.tobytes()
    for image in (blue(), grey(0, 255).convert("1"), Image.fromarray(OBJECT.astype(np.uint16))):
        image.save(tmp_path / "m.png")
        with pytest.raises(BadImage, match=r"m.png has (the mode|more than 8 bits)"):
            open_map(tmp_path / "m.png", (8, 8), True, labels=True)


def test_a_palette_that_is_not_there_is_no_crash(tmp_path):
    """Found by fuzzing: Pillow asserts that there is one."""
    path = tmp_path / "mask.png"
    image = Image.new("P", (40, 36))
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.paste(1, (5, 5, 20, 20))
    image.save(path, transparency=0)
    data = path.read_bytes()
    place = data.index(b"PLTE")
    (size,) = struct.unpack(">I", data[place - 4 : place])
    end = place + 4 + size
    chunk = b"plTe" + data[place + 4 : end]  # one that may be passed over
    path.write_bytes(data[:place] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[end + 4 :])
    with pytest.raises(BadImage, match="no palette"):
        open_mask(path, (40, 36), exif=True)

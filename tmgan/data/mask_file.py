"""Read mask and label files in the forms that people have them. What a file does not say plainly is refused by name.

A mask is 255 on the object and 0 elsewhere, with soft edges in between. What a pixel means follows from the form:
transparency by alpha, palettes and colours by "not black", greys by their levels. Labels such as 0, 3 and 255 do not
say which one is the object, and as greys they would make a dim mask. Imports no torch: workers start here.
"""

from __future__ import annotations

import functools
from pathlib import Path

from PIL import Image, ImageChops

from tmgan.data.decode import BadImage, check_depth, decode, is_deep, read_picture
from tmgan.data.levels import bits_per_channel, is_lossy, level_step, white_is_zero

_SAME = 8  # channels that differ less are grey, and a level as near to black or white is that: what JPEG does to them
_MOST_LABELS = 16  # of more, a message speaks of grey levels
_MOST_AREA = 8  # edges are edges: of one level, away from others, is at most this part of the pixels in white
_ANNOTATORS = 51  # 255 / 5: the masks of CUB-200-2011 are shares of five annotators
_RULE = "a mask has two values, 0 elsewhere and 255 (white) on the object"

_SAVE_ONE = "Save one with the object alone in white, without soft edges"
_VOID, _VOID_COLOUR = 255, (224, 224, 192)  # what Pascal VOC draws around objects: neither object nor ground


class _Meaningless(Exception):
    """What a picture holds instead of a mask; the path comes before it."""


def open_map(path: Path, size: tuple[int, int], exif: bool, labels: bool) -> Image.Image:
    """open_labels() or open_mask(), in that a map is cut like the photo of `size` (width, height) it belongs to."""
    return open_labels(path, size, exif) if labels else open_mask(path, size, exif)


def open_labels(path: Path, size: tuple[int, int], exif: bool) -> Image.Image:
    """A label map (mode L or P), unchanged.

    Args:
        size: width and height of the photo it belongs to.

    Raises:
        BadImage: the file is missing, cannot be decoded, has another size or is no list of labels.
    """
    image = decode(path, exif)
    _check_same_size(image, path, size)
    if image.mode not in ("L", "P"):
        raise BadImage(f"{path} has the mode {image.mode}: a label map is greyscale or has a palette, of 8 bits")
    return image if image.mode == "P" else image.point(_stored(bits_per_channel(image, path)))


def open_mask(path: Path, size: tuple[int, int], exif: bool) -> Image.Image:
    """A mask as 8-bit grey, 255 on the object.

    Args:
        size: width and height of the photo it belongs to.

    Raises:
        BadImage: the file is missing, cannot be decoded, has another size, or does not say where the object is.
    """
    image = read_picture(path, exif)
    _check_same_size(image, path, size)
    lossy, bits = is_lossy(image, path), bits_per_channel(image, path)
    try:
        if is_deep(image):
            return _of_numbers(image, path)
        alpha = _alpha(image)
        if alpha is not None:
            shown = [level for level, count in enumerate(alpha.histogram()) if count]
            low, high = shown[0], shown[-1]
            if low != high and low < 255 - _SAME or high == 0:  # a trace of transparency is an editor's, and no mask
                _check_no_other(image, alpha)
                _check_bits(alpha, bits)
                return _of_grey(alpha, lossy, "in its alpha channel ")
            image = image if image.mode == "P" else image.convert("L" if image.mode in ("L", "LA") else "RGB")
        if image.mode == "1":
            return image.convert("L")
        if image.mode == "P":
            return _of_palette(image)
        _check_bits(image, bits)
        if image.mode == "L":
            return _of_grey(image.point(_stored(bits)), lossy)
        return _of_colour(image.convert("RGB"), lossy)
    except _Meaningless as error:
        raise BadImage(f"{path} {error}") from None


def _check_same_size(image: Image.Image, path: Path, size: tuple[int, int]) -> None:
    if image.size != size:
        raise BadImage(
            f"{path} has {image.width}x{image.height} pixels, its image {size[0]}x{size[1]}: they must be equal"
        )


def _alpha(image: Image.Image) -> Image.Image | None:
    return image.convert("RGBA").getchannel("A") if image.has_transparency_data else None


def _check_bits(image: Image.Image, bits: int) -> None:
    """Refuse 16 bits in colour that are not used up to the highest: Pillow gives the upper 8, where labels vanish."""
    if bits > 8 and max(image.tobytes()) < 255:
        raise _Meaningless(
            f"has {bits} bits per channel, and the upper 8, which are read, hold no white. Save it with 8 bits"
        )


def _stored(bits: int) -> list[int]:
    """The levels as they were stored, by the level that Pillow gives: labels of 2 or 4 bits are no greys."""
    step = level_step(bits)
    return [level // step for level in range(256)]


def _check_no_other(image: Image.Image, alpha: Image.Image) -> None:
    """Refuse a picture that has two masks: its alpha, and white or one colour on black where it is opaque."""
    shown = image.convert("RGB")
    if not any(alpha.histogram()[1:]) and shown.getcolors(1) is None:
        raise _Meaningless(
            f"is transparent everywhere, with more than one colour below; {_RULE}. Save it without transparency"
        )
    opaque = alpha.point([255 * (level >= 255 - _SAME) for level in range(256)])
    brightest = _brightest(shown)
    if _is_coloured(shown, opaque):
        on_black = Image.composite(shown, Image.new("RGB", shown.size), opaque).getcolors(2)
        two = on_black is not None and brightest.histogram(mask=opaque)[0] > 0
    else:
        counts = brightest.histogram(mask=opaque)
        black, white = sum(counts[: _SAME + 1]), sum(counts[255 - _SAME :])
        few = sum(counts) // 100 if black + white < sum(counts) else 0
        two = min(black, white) > few and 2 * (black + white) >= sum(counts)
    if two:
        raise _Meaningless(
            "shows an object on black where it is opaque, and is transparent elsewhere, so it shows two masks; "
            f"{_RULE}. Save it without transparency"
        )


def _of_grey(image: Image.Image, lossy: bool = False, where: str = "") -> Image.Image:
    """By levels: one or two are plain, more are soft edges between black and white, or labels."""
    counts = image.histogram()
    levels = [level for level, count in enumerate(counts) if count]
    if lossy and (0 < levels[-1] <= _SAME or 255 - _SAME <= levels[0] < 255):
        raise _Meaningless(
            f"holds {where}levels from {levels[0]} to {levels[-1]}: labels, or one level that its compression has "
            "changed. Save it as PNG, black if there is no object"
        )
    if len(levels) == 1:
        return _of_one(image, levels[0], where)
    if len(levels) == 2:
        low, high = levels
        if low != 0 and not (low <= _SAME and high >= 255 - _SAME):
            raise _Meaningless(
                f"holds {where}the labels {_listed(levels)}, and not what is ground; {_RULE}. {_SAVE_ONE}"
            )
        return image.point([255 if level == levels[1] else 0 for level in range(256)])
    black, white = sum(counts[: _SAME + 1]), sum(counts[255 - _SAME :])
    soft = black and white and 2 * (black + white) >= sum(counts) and _MOST_AREA * _areas(image, counts) <= white
    if soft or all(level % _ANNOTATORS == 0 for level in levels):
        return image
    if len(levels) <= _MOST_LABELS:
        raise _Meaningless(f"holds {where}the labels {_listed(levels)}; {_RULE}. {_SAVE_ONE}")
    raise _Meaningless(
        f"holds {where}{len(levels)} grey levels from {levels[0]} to {levels[-1]}, as photos, labels and blurred masks "
        f"do; {_RULE}, at least half of it nearly black or white, and only edges in between. Save it in black and white"
    )


def _areas(image: Image.Image, counts: list[int]) -> int:
    """Pixels between black and white that are like their four neighbours: labels fill areas, soft edges do not.

    Args:
        counts: histogram of the image.
    """
    across, down = (ImageChops.difference(image, ImageChops.offset(image, *step)) for step in ((1, 0), (0, 1)))
    around = (across, ImageChops.offset(across, -1, 0), down, ImageChops.offset(down, 0, -1))
    like = functools.reduce(ImageChops.lighter, around).point([255] + [0] * 255)
    areas = image.histogram(mask=like)
    ground = max(range(_SAME + 1), key=counts.__getitem__)  # black that something has made a little lighter
    return sum(areas[1 : 255 - _SAME]) - (areas[ground] if ground else 0)


def _of_one(image: Image.Image, level: float, where: str = "", full: tuple[int, ...] = (1, 255)) -> Image.Image:
    """Empty or full."""
    if level != 0 and level not in full:
        raise _Meaningless(f"holds {where}the value {level} everywhere; {_RULE}. Save it black if there is no object")
    return Image.new("L", image.size, 255 if level else 0)


def _of_numbers(image: Image.Image, path: Path) -> Image.Image:
    """Pictures of 16 bits and more: exactly one or two values."""
    import numpy as np  # only here: workers start without it

    if white_is_zero(image):
        raise _Meaningless(
            f"counts from white to black with more than 8 bits, which Pillow does not turn around. {_SAVE_ONE}"
        )
    values = np.asarray(image)
    if "transparency" in image.info:
        raise _Meaningless(f"has a transparent level and more than 8 bits; {_RULE}. Save it with 8 bits")
    low, high = values.min(), values.max()
    upper = values == high
    if not (upper | (values == low)).all():  # NaN is neither
        check_depth(image, path)
    if low == high:
        return _of_one(image, low.item(), full=(1, 255, 65535))
    if low != 0:
        raise _Meaningless(f"holds the labels {low} and {high}, and not what is ground; {_RULE}. {_SAVE_ONE}")
    return Image.fromarray(upper.astype(np.uint8) * np.uint8(255))


def _of_palette(image: Image.Image) -> Image.Image:
    """One colour on black, whatever their indices: programs that reduce colours number them as they like.

    A palette of greys is greyscale stored shorter. If all of it is black, no colours were given: the indices count.
    """
    indices = [index for index, count in enumerate(image.histogram()) if count]
    values = image.getpalette("RGB") or []
    if not any(values):
        return _of_grey(image.point(range(256), "L"))
    palette = [tuple(values[start : start + 3]) for start in range(0, len(values), 3)]
    palette += [(0, 0, 0)] * (256 - len(palette))
    if len(indices) > 1 and not any(max(palette[index]) for index in indices):
        raise _Meaningless(
            f"holds the labels {_listed(indices)} of a palette that shows all of them in black; {_RULE}. {_SAVE_ONE}"
        )
    shown = image.convert("RGB")
    if not _is_coloured(shown):
        return _of_grey(_brightest(shown))
    if len(indices) > 2:
        raise _Meaningless(f"holds the labels {_listed(indices)} of a palette; {_RULE}. {_SAVE_ONE}")
    least = 0 if (0, 0, 0) in [palette[index] for index in indices] else _SAME
    objects = [index for index in indices if max(palette[index]) > least]
    if objects == [_VOID] and palette[_VOID] == _VOID_COLOUR:
        raise _Meaningless(f"holds no object, only the border that Pascal VOC draws around one; {_RULE}. {_SAVE_ONE}")
    if len(objects) == 2 or indices == [0]:  # 0 alone: of labels the ground, of reduced colours anything
        what = "one colour" if indices == [0] else "two colours"
        raise _Meaningless(f"holds {what} of a palette, and not which is ground; {_RULE}. {_SAVE_ONE}")
    return image.point([255 if index in objects else 0 for index in range(256)], "L")


def _of_colour(image: Image.Image, lossy: bool) -> Image.Image:
    """Grey in three channels, or one colour on black."""
    if not _is_coloured(image, lossy=lossy):
        return _of_grey(_brightest(image), lossy)
    colours = image.getcolors(2)
    if colours is None or (0, 0, 0) not in [colour for _, colour in colours]:
        found = image.getcolors(256)
        count = "one colour" if found and len(found) == 1 else f"{len(found) if found else 'more than 256'} colours"
        raise _Meaningless(f"holds {count}, not one on black; {_RULE}. Save it in black and white")
    return _brightest(image).point([0] + [255] * 255)


def _is_coloured(image: Image.Image, where: Image.Image | None = None, lossy: bool = False) -> bool:
    """Whether an RGB picture is more than grey, in the pixels where the mask `where` is not 0.

    Channels may differ a little, but where all is nearly black, as labels are, they may not.
    """
    brightest = _brightest(image)
    spread = ImageChops.subtract(brightest, functools.reduce(ImageChops.darker, image.split()))
    allowed = _SAME if lossy or any(brightest.histogram(mask=where)[_SAME + 1 :]) else 0
    return any(spread.histogram(mask=where)[allowed + 1 :])


def _brightest(image: Image.Image) -> Image.Image:
    """The largest of the three channels, as grey."""
    return functools.reduce(ImageChops.lighter, image.split())


def _listed(values: list[int], most: int = 6) -> str:
    """0, 3 and 255; or 0, 1, 2, 3, 4, 5 and 10 more."""
    words = [str(value) for value in values]
    if len(words) > most:
        words = [*words[:most], f"{len(words) - most} more"]
    return f"{', '.join(words[:-1])} and {words[-1]}"

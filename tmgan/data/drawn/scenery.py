"""What is around a drawn bird: out-of-focus foliage, sky, field or water, and the branch, ground or water it is on.

All of it is muted and of medium brightness, so that nothing here can be taken for a colour of the birds' palette.
Positions are fractions of the image edge, x to the right and y down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tmgan.data.drawn.birds import closed_curve

Polygons = list[tuple[np.ndarray, np.ndarray | None]]  # (points, RGB), from back to front

# An upper and a lower colour (RGB), to choose from.
_BACKDROPS = {
    "foliage": (((112, 132, 104), (86, 104, 84)), ((134, 146, 112), (98, 112, 86)), ((104, 116, 106), (116, 122, 98))),
    "sky": (((138, 164, 186), (182, 192, 196)), ((160, 170, 180), (190, 182, 168)), ((130, 150, 170), (166, 178, 184))),
    "field": (((112, 126, 98), (150, 144, 108)), ((148, 156, 150), (128, 136, 98)), ((124, 130, 98), (164, 148, 118))),
    "water": (((132, 148, 146), (98, 124, 136)), ((154, 158, 148), (118, 138, 144)), ((108, 126, 114), (94, 116, 122))),
}
_BACKDROPS_OF_POSE = {
    "perch": ("foliage", "sky", "field"),
    "front": ("foliage", "foliage", "field"),
    "fly": ("sky", "sky", "foliage"),
    "ground": ("field",),
    "shore": ("water",),
    "water": ("water",),
}
_BARK = ((98, 82, 66), (118, 104, 90), (84, 74, 66))
_STONE = ((134, 130, 124), (116, 112, 106), (150, 142, 128))
_GRASS, _LEAF, _RIPPLE = np.array((112, 122, 84.0)), np.array((104, 122, 84.0)), np.array((158, 176, 180.0))


@dataclass(frozen=True)
class Scene:
    """What scenery must know about the bird; `scale` is half its body's length, `left` and `right` its extent."""

    pose: str
    foot: np.ndarray | None
    waterline: float | None
    left: float
    right: float
    scale: float

    @property
    def stand(self) -> np.ndarray:
        """Where the bird stands (x, y), for the poses that do."""
        assert self.foot is not None, self.pose
        return self.foot


def paint_scene(scene: Scene, rng: np.random.Generator, size: int) -> tuple[np.ndarray, Polygons, Polygons]:
    """The surroundings of a bird.

    Returns:
        The blurred background, float32 (size, size, 3) in 0..255; the sharp things behind the bird; those before it.
    """
    kinds = _BACKDROPS_OF_POSE[scene.pose]
    kind = kinds[rng.integers(len(kinds))]
    backdrop = _backdrop(kind, scene, rng, size // 2)
    background = np.asarray(backdrop.resize((size, size), Image.Resampling.BICUBIC), np.float32)
    if scene.waterline is not None:
        return background, [], _ripples(scene.waterline, scene, rng)
    if scene.pose in ("perch", "front"):
        return background, _branch(scene, rng), []
    if scene.pose == "ground":
        return background, _ground(scene, rng), []
    if scene.pose == "shore":
        return background, _ripples(scene.stand[1], scene, rng)[1:], []
    return background, [], []


# --- out of focus ---------------------------------------------------------------------------------------------------


def _backdrop(kind: str, scene: Scene, rng: np.random.Generator, size: int) -> Image.Image:
    pair = _BACKDROPS[kind][rng.integers(len(_BACKDROPS[kind]))]
    upper, lower = np.array(pair, np.float32) + rng.normal(0, 5, 3).astype(np.float32)
    horizon = {"foliage": 0.5, "sky": 0.55, "field": rng.uniform(0.5, 0.7), "water": rng.uniform(0.2, 0.35)}[kind]
    if scene.pose == "ground":
        horizon = scene.stand[1] - rng.uniform(0.05, 0.15)
    softness = {"foliage": 5, "sky": 5, "field": 22, "water": 12}[kind]
    y = (np.arange(size, dtype=np.float32) + 0.5) / size
    mix = 1 / (1 + np.exp(-softness * (y - horizon)))[:, None, None]
    strength, stretch = {"foliage": (1.0, 1.0), "sky": (0.55, 0.7), "field": (0.8, 0.8), "water": (0.9, 0.3)}[kind]
    cloud = sum(
        weight * _noise(rng, (cells, max(2, round(cells * stretch)), 1), size)
        for cells, weight in ((3, 9.0), (7, 7.0), (15, 5.0), (32, 3.0))
    )
    picture = upper * (1 - mix) + lower * mix + strength * cloud + 3 * _noise(rng, (3, 3, 3), size)
    image = Image.fromarray(np.clip(picture, 50, 205).astype(np.uint8))
    pencil = ImageDraw.Draw(image)
    if kind in ("foliage", "field"):
        _leaves(pencil, image, rng, 1.0 if kind == "foliage" else horizon)
    if kind == "field":
        _stalks(pencil, image, rng, horizon)
    image = image.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.016, 0.030)))
    if kind == "foliage":
        image = _lights(image, rng)
    if scene.pose in ("ground", "shore", "water"):
        image = _shadow(image, scene)
    return image


def _noise(rng: np.random.Generator, shape: tuple[int, int, int], size: int) -> np.ndarray:
    """Smooth noise of unit strength from a (rows, columns, channels) grid -> (size, size, channels)."""
    rows, columns, channels = shape
    grids = rng.standard_normal((channels, rows + 1, columns + 1), np.float32)
    smooth = [Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC) for grid in grids]
    return np.stack([np.asarray(grid) for grid in smooth], -1)


def _near_colour(image: Image.Image, x: float, y: float, change: float) -> tuple[int, ...]:
    pixel = image.getpixel((int(x), int(y)))
    assert isinstance(pixel, tuple)
    return tuple(int(min(max(value + change, 50), 205)) for value in pixel)


def _leaves(pencil, image: Image.Image, rng: np.random.Generator, bottom: float) -> None:
    """Leaves far behind the bird, from the top of the picture down to `bottom`."""
    size = image.width
    for x, y, long, slope, change in rng.random((int(rng.integers(14, 30)), 5)) - (0, 0, 0, 0.5, 0.5):
        x, y, reach = x * size, y * bottom * size * 0.99, size * (0.04 + 0.10 * long)
        tip = np.array([reach, 2 * reach * slope])
        side = np.array([-tip[1], tip[0]]) * 0.3
        outline = np.array([-tip, side, tip, -side]) + (x, y)
        pencil.polygon(outline.ravel().tolist(), fill=_near_colour(image, x, y, 60 * change))


def _stalks(pencil, image: Image.Image, rng: np.random.Generator, horizon: float) -> None:
    """Grass below the horizon, longer the nearer it is."""
    size = image.width
    for x, near, sway, change in rng.random((60, 4)) - (0, 0, 0.5, 0.5):
        x, y = x * size, size * (horizon + (0.999 - horizon) * near)
        tip = (x + sway * 0.06 * size, y - size * (0.02 + 0.10 * near))
        pencil.line((x, y, *tip), fill=_near_colour(image, x, y, 56 * change), width=1 + size // 64)


def _lights(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Discs of light between leaves, as a lens paints them when they are out of focus."""
    size = image.width
    bright = image.copy()
    pencil = ImageDraw.Draw(bright)
    for x, y, wide in rng.random((int(rng.integers(0, 9)), 3)) * (size, size, 1):
        r = size * (0.03 + 0.05 * wide)
        pencil.ellipse((x - r, y - r, x + r, y + r), fill=_near_colour(image, x, y, 46))
    return Image.blend(image, bright.filter(ImageFilter.GaussianBlur(size * 0.018)), 0.6)


def _shadow(image: Image.Image, scene: Scene) -> Image.Image:
    """The shadow of the bird on the ground or the water."""
    size = image.width
    if scene.waterline is None:
        (x, y), width, depth = scene.stand, 0.30, 0.26
    else:
        x, y, width, depth = (scene.left + scene.right) / 2, scene.waterline, 0.42, 0.42
    half = (scene.right - scene.left) * width
    dark, shade = Image.new("RGB", image.size, (56, 58, 54)), Image.new("L", image.size, 0)
    box = np.array([x - half, y - half * 0.26, x + half, y + half * depth]) * size
    ImageDraw.Draw(shade).ellipse(box.tolist(), fill=120)
    return Image.composite(dark, image, shade.filter(ImageFilter.GaussianBlur(size * 0.03)))


# --- in focus -------------------------------------------------------------------------------------------------------


def _ripples(y: float, scene: Scene, rng: np.random.Generator) -> Polygons:
    """First an uncovering wave below `y`, then lines of light on the water around the bird."""
    x = np.linspace(-0.05, 1.05, 40)
    surface = np.stack([x, y + 0.004 * np.sin(x * rng.uniform(40, 60) + rng.uniform(0, 6))], 1)
    polygons: Polygons = [(np.concatenate([surface, [(1.05, 1.05), (-0.05, 1.05)]]), None)]
    middle, half = (scene.left + scene.right) / 2, (scene.right - scene.left) / 2
    for k in range(5):
        at, reach, low = middle + half * rng.normal(0, 0.3), half * rng.uniform(0.3, 0.8), y + 0.008 + 0.022 * k
        line = np.array([(at - reach, low), (at, low - 0.004), (at + reach, low), (at, low + 0.004)])
        polygons.append((line, _RIPPLE + rng.uniform(-24, 8)))
    return polygons


def _ground(scene: Scene, rng: np.random.Generator) -> Polygons:
    """A stone under the feet, or none, and blades of grass around them."""
    x, y = scene.stand
    polygons: Polygons = []
    if rng.random() < 0.5:
        stone = np.array(_STONE[rng.integers(len(_STONE))], float)
        wide, high = scene.scale * rng.uniform(0.9, 1.5), scene.scale * rng.uniform(0.45, 0.65)
        outline = np.array([(-1, 0.75), (-0.75, 0.1), (-0.2, -0.05), (0.4, -0.02), (0.85, 0.2), (1, 0.8), (0, 0.95)])
        outline[:, 1] += rng.normal(0, 0.04, len(outline))
        for shrink, tone in ((1.0, 0.8), (0.86, 1.0), (0.55, 1.1)):
            polygons.append((closed_curve(outline * (wide * shrink, high * shrink)) + (x, y), stone * tone))
    for place, height, low, sway in rng.random((int(rng.integers(8, 22)), 4)) - (0, 0, 0, 0.5):
        root, tip = np.array([place, y + 0.02 + 0.10 * low]), np.array([0.08 * sway, -0.04 - 0.09 * height])
        blade = np.array([root - (0.006, 0), root + tip, root + (0.006, 0)])
        polygons.append((blade, _GRASS + rng.uniform(-24, 24)))
    return polygons


def _branch(scene: Scene, rng: np.random.Generator) -> Polygons:
    """A branch through the feet, with a few leaves."""
    x0, y0 = scene.stand
    thick, bark = scene.scale * rng.uniform(0.18, 0.30), np.array(_BARK[rng.integers(len(_BARK))], float)
    slope, bow, phase = rng.uniform(-0.16, 0.16), rng.uniform(-0.2, 0.2), rng.uniform(0, 6)
    x = np.linspace(-0.05, 1.05, 14)

    def middle(at):
        return y0 + thick * 0.45 + slope * (at - x0) + bow * (at - x0) ** 2

    def strip(top: float, bottom: float) -> np.ndarray:
        wide = thick * (1 + 0.2 * np.sin(9 * x + phase))
        above, below = np.stack([x, middle(x) + top * wide], 1), np.stack([x, middle(x) + bottom * wide], 1)
        return np.concatenate([above, below[::-1]])

    polygons: Polygons = []
    for _ in range(int(rng.integers(0, 6))):
        at, side = rng.uniform(0.02, 0.98), rng.choice((-1.0, 1.0))
        root = np.array([at, middle(at)])
        stem = np.array([rng.uniform(-0.09, 0.09), side * rng.uniform(0.08, 0.14)])
        across = np.array([-stem[1], stem[0]]) * 0.24
        half, tip, colour = root + stem * 0.5, root + stem, _LEAF + rng.uniform(-16, 24)
        polygons.append((closed_curve([root, half + across, tip, half - across]), colour))
        polygons.append((np.array([root, tip, half + across * 0.15]), colour * 0.8))
    return polygons + [(strip(-0.5, 0.5), bark), (strip(-0.5, -0.22), bark * 1.2), (strip(0.2, 0.5), bark * 0.74)]

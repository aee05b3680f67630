"""From the shapes of a bird to a picture with true labels. `draw_bird` is a pure function of its random generator.

The polygons' numbers are painted on a three times larger canvas; one look-up in it gives the colours, another the
parts, so masks agree with pixels and what is hidden is hidden in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tmgan.data.drawn.birds import BODY, HEAD, OTHER, SPECIES, WINGS, Sketch, Species
from tmgan.data.drawn.patterns import Pattern, without_feathers
from tmgan.data.drawn.scenery import Scene, paint_scene
from tmgan.data.palette import PALETTE, PARTS

SUPERSAMPLING = 3
MINIMUM_SHARE = 0.03  # of the area of the bird's box, for every coloured part
_LONGER_SIDE = (0.50, 0.60)  # of the bird, as a fraction of the image edge
_LABELS = np.array([HEAD, BODY, WINGS, OTHER], np.uint8)


@dataclass(frozen=True)
class Drawing:
    """A drawn bird and its ground truth.

    Attributes:
        pixels: uint8 (S, S, 3).
        parts: uint8 (S, S), 0 background, 1 + index in PARTS, OTHER.
        colours: name of each part's colour.
        patterns: name of each part's pattern; empty for a bird of the set without patterns.
    """

    pixels: np.ndarray
    parts: np.ndarray
    colours: dict[str, str]
    species: str
    patterns: dict[str, str] = field(default_factory=dict)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height of the bird in pixels, as in CUB's bounding_boxes.txt."""
        rows, columns = np.flatnonzero(self.parts.any(1)), np.flatnonzero(self.parts.any(0))
        x, y = float(columns[0]), float(rows[0])
        return x, y, float(columns[-1]) + 1 - x, float(rows[-1]) + 1 - y


def draw_bird(rng: np.random.Generator, size: int, patterns: Mapping[str, Pattern] | None = None) -> Drawing:
    """Draw one bird on `size` x `size` pixels: first colours and species, then poses until every part shows enough.

    Args:
        patterns: of every part; None: the bird has feathers instead.
    """
    names = tuple(PALETTE)
    colours = {part: names[rng.integers(len(names))] for part in PARTS}
    species = SPECIES[rng.integers(len(SPECIES))]
    while True:
        drawing = _draw(species, colours, rng, size, patterns)
        _, _, width, height = drawing.box
        areas = np.bincount(drawing.parts.reshape(-1), minlength=OTHER + 1)[1 : len(PARTS) + 1]
        if areas.min() >= MINIMUM_SHARE * width * height:
            return drawing


def _draw(
    species: Species,
    colours: dict[str, str],
    rng: np.random.Generator,
    size: int,
    patterns: Mapping[str, Pattern] | None,
) -> Drawing:
    sketch = Sketch(species, species.poses[rng.integers(len(species.poses))], colours, rng)
    points = np.concatenate([polygon for polygon, _, _ in sketch.polygons])
    scale, shift = _placement(points, sketch.waterline, rng)
    points = points * scale + shift
    scene = Scene(
        pose=sketch.pose,
        foot=None if sketch.foot is None else sketch.foot * scale + shift,
        waterline=None if sketch.waterline is None else sketch.waterline * scale[1] + shift[1],
        left=points[:, 0].min(),
        right=points[:, 0].max(),
        scale=scale[1],
    )
    background, behind, before = paint_scene(scene, rng, size)
    ends = np.cumsum([len(polygon) for polygon, _, _ in sketch.polygons])[:-1]
    bird = [(p, colour, label) for p, (_, colour, label) in zip(np.split(points, ends), sketch.polygons, strict=True)]
    added = None
    if patterns is not None:
        bird = [(p, without_feathers(colour, label, colours), label) for p, colour, label in bird]
        added = np.stack([patterns[part].added(colours[part], size) for part in PARTS])
    layers = [(p, colour, 0) for p, colour in behind] + bird + [(p, colour, 0) for p, colour in before]
    pixels, parts = _paint(layers, background, rng, added)
    names = {part: pattern.name for part, pattern in (patterns or {}).items()}
    return Drawing(pixels, parts, colours, species.name, names)


def _placement(points: np.ndarray, waterline: float | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scale (2,) and shift (2,) to fractions of the image edge; a negative scale of x makes the bird look left."""
    low, high = points.min(0), points.max(0)
    if waterline is not None:
        high[1] = min(high[1], waterline)
    share = rng.uniform(*_LONGER_SIDE)
    scale = share / (high - low).max() * np.array([rng.choice((-1.0, 1.0)), 1.0])
    # The published tile reaches 0.75 of the longer side from the box's centre: keep it inside the image.
    room = 0.49 - 0.75 * share
    return scale, 0.5 + rng.uniform(-room, room, 2) - scale * (low + high) / 2


def _paint(
    layers: list, background: np.ndarray, rng: np.random.Generator, added: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Paint layers over a background.

    Args:
        layers: (polygon in fractions of the edge, RGB, label) from back to front. Label 0 is scenery, and a colour of
            None uncovers the background.
        added: what the patterns add to the colours of each part, (len(PARTS), S, S, 3); None: nothing.

    Returns:
        The pixels and the part labels.
    """
    size = len(background)
    assert len(layers) < 256
    canvas = Image.new("L", (size * SUPERSAMPLING, size * SUPERSAMPLING))
    pencil = ImageDraw.Draw(canvas)
    numbers = np.arange(256)
    colours, labels = np.zeros((256, 3), np.uint8), np.zeros(256, np.uint8)
    for k, (points, colour, label) in enumerate(layers, 1):
        pencil.polygon((points * canvas.width).ravel().tolist(), fill=0 if colour is None else k)
        if colour is not None:
            colours[k], labels[k] = np.clip(colour, 0, 255), label

    def average(table: np.ndarray) -> Image.Image:
        canvas.putpalette(np.ascontiguousarray(table, np.uint8).tobytes())
        return canvas.convert("RGB").reduce(SUPERSAMPLING)

    # Three palettes give the nine averages: red, green, blue; head, body, wings; other, bird, opaque.
    paint = np.asarray(average(colours), np.float32)
    is_label = (labels[:, None] == _LABELS) * 255
    part_shares = average(is_label[:, :3])
    other, bird, opaque = average(np.stack([is_label[:, 3], (labels > 0) * 255, (numbers > 0) * 255], 1)).split()
    majority = np.argmax(np.dstack([np.asarray(part_shares), np.asarray(other)]), -1)
    parts = np.where(np.asarray(bird) >= 128, _LABELS[majority], 0).astype(np.uint8)

    if added is not None:
        shares = np.asarray(part_shares, np.float32) / 255
        paint = np.clip(paint + np.einsum("hwp,phwc->hwc", shares, added), 0, 255)

    relief = _relief(bird, 0.05) + _relief(part_shares, 0.03).sum(-1)
    light = 1 + np.clip(0.42 * relief, -0.22, 0.26) + 0.035 * _grain(rng, size)
    alpha = np.asarray(opaque, np.float32)[..., None] / 255
    # Light scales a colour, and a highlight adds white: only that is visible on black.
    picture = paint * light[..., None] + alpha * (34 * np.clip(relief, 0, 0.6))[..., None]
    picture += (1 - alpha) * background + 1.6 * rng.standard_normal((size, size, 1), np.float32)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8), parts


def _relief(cover: Image.Image, depth: float) -> np.ndarray:
    """Slope towards a light at the upper left of a cushion on each channel's covered area; 0 elsewhere.

    Args:
        depth: how far the cushion's edge is rounded, as a fraction of the image edge.
    """
    radius = depth * cover.width
    height = np.asarray(cover.filter(ImageFilter.GaussianBlur(radius)), np.float32)
    slope = np.zeros_like(height)
    slope[1:-1] += (0.4 * radius / 255) * (height[2:] - height[:-2])
    slope[:, 1:-1] += (0.175 * radius / 255) * (height[:, 2:] - height[:, :-2])
    return slope * (np.asarray(cover) > 0)


def _grain(rng: np.random.Generator, size: int) -> np.ndarray:
    """Fine horizontal streaks, like barbs of feathers."""
    grain = Image.fromarray(rng.standard_normal((size // 2, size // 4), np.float32))
    return np.asarray(grain.resize((size, size), Image.Resampling.BILINEAR))

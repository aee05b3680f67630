"""Spots and stripes on the parts of drawn birds, and captions that name them.

A pattern is made of a lighter and a darker tone of the part's colour, whose mean is still nearest to that colour of
the palette. Lengths are fractions of the picture's edge: a bird's longer side is about 0.55 of it, and about 51 pixels
of a network's image of 64, so that 0.0108 is one such pixel.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tmgan.data.palette import PALETTE, PARTS, PATTERNS

LUMINANCE = np.array((0.299, 0.587, 0.114))
_TEMPLATES = (
    "this bird has a {head} head, {wings} wings and a {body} belly.",
    "a bird with {wings} wings, a {body} body and a {head} head.",
    "a bird with a {head} head, {wings} wings and a {body} belly.",
    "this small bird has {wings} wings, a {body} belly and a {head} crown.",
    "this bird has a {head} head and {wings} wings.",
    "a small bird with a {body} breast and a {head} head.",
    "it has {wings} wings and a {body} belly.",
    "the bird in this picture has a {head} head, {body} feathers on its breast and its belly, and {wings} wings.",
    "its head is {head_pattern}, its breast is {body_pattern} and its wings are {wings_pattern}.",
    "a bird with {wings_pattern} wings and a {body_pattern} belly.",
)
_PIXEL = 0.0108  # of a network's image of 64, see above
_FEATHERS = 0.2  # contrast of feathers to that of a bird without patterns: those of an owl look like spots
_COVER = 0.4  # about the share of the darker tone in a part with a pattern
_CONTRAST = 105.0  # of the tones' luminance, in levels of 255, where the palette allows it
_MARGIN = 0.5  # the mean of the tones is at most so far from its colour, as a share of the way to the next


@dataclass(frozen=True)
class Pattern:
    """The pattern of one part.

    Attributes:
        name: one of PATTERNS.
        angle: of the stripes, or of the rows of spots, in radians.
        period: of the stripes, a fraction of the picture's edge.
        phase: (2,) where they begin, in periods.
    """

    name: str
    angle: float
    period: float
    phase: tuple[float, float]

    def added(self, colour: str, size: int) -> np.ndarray:
        """What the pattern adds to a part of this colour: (size, size, 3) in levels of 255."""
        if self.name == "plain":
            return np.zeros((size, size, 3))
        light, dark = tones(colour)
        cover = self._cover(size)[..., None]
        return light + cover * (dark - light) - np.array(PALETTE[colour], float)

    def _cover(self, size: int) -> np.ndarray:
        """Share of the darker tone (size, size), in 0..1."""
        y, x = ((np.mgrid[:size, :size] + 0.5) / size).astype(float)
        along = np.cos(self.angle) * x + np.sin(self.angle) * y
        across = np.cos(self.angle) * y - np.sin(self.angle) * x
        if self.name == "striped":
            to_middle = np.abs((along / self.period + self.phase[0]) % 1 - 0.5) * self.period
            inside = 0.5 * _COVER * self.period - to_middle
        else:
            step = 1.05 * self.period  # of spots in a row; rows are shifted by half a step
            row = across / (0.87 * step) + self.phase[0]
            place = along / step + self.phase[1] + 0.5 * (np.floor(row) % 2)
            inside = 0.32 * step - np.hypot((place % 1 - 0.5) * step, (row % 1 - 0.5) * 0.87 * step)
        return np.clip(inside * size + 0.5, 0, 1)


def draw_patterns(rng: np.random.Generator, names: Mapping[str, str] | None = None) -> dict[str, Pattern]:
    """A pattern for every part. The draws do not depend on `names`, which replace the ones that were drawn.

    Raises:
        ValueError: `names` has an unknown part or pattern.
    """
    patterns = {}
    for part in PARTS:
        name = PATTERNS[rng.integers(len(PATTERNS))]
        angle, period = rng.uniform(0, np.pi), _PIXEL * rng.uniform(5.0, 6.0)
        patterns[part] = Pattern(name, angle, period, (rng.random(), rng.random()))
    for part, name in (names or {}).items():
        if part not in PARTS or name not in PATTERNS:
            raise ValueError(f"the {part} is {name!r}: choose {', '.join(PARTS)} and {', '.join(PATTERNS)}")
        patterns[part] = replace(patterns[part], name=name)
    return patterns


def without_feathers(colour: np.ndarray, label: int, colours: Mapping[str, str]) -> np.ndarray:
    """The colour of a shape with the given label of a part, nearer to that of the whole part."""
    if not 1 <= label <= len(PARTS):
        return colour
    own = np.array(PALETTE[colours[PARTS[label - 1]]], float)
    return own + _FEATHERS * (colour - own)


def describe_patterned(colours: Mapping[str, str], patterns: Mapping[str, str], variant: int) -> str:
    """Caption number `variant` (0..9) of a bird with these colours and patterns.

    Variants 0 to 3 and 7 name colour and pattern of all three parts, 4 to 6 of two; 8 and 9 name patterns only.

    Args:
        colours: a name in PALETTE for every name in PARTS.
        patterns: a name in PATTERNS for every name in PARTS.
    """
    if not 0 <= variant < len(_TEMPLATES):
        raise ValueError(f"caption variant {variant} does not exist: choose 0 to {len(_TEMPLATES) - 1}")
    for part in PARTS:
        for names, table in ((colours, PALETTE), (patterns, PATTERNS)):
            if names.get(part) not in table:
                raise ValueError(f"the {part} is {names.get(part)!r}: choose one of {', '.join(table)}")
    words = {part: f"{patterns[part]} {colours[part]}" for part in PARTS}
    return _TEMPLATES[variant].format(**words, **{f"{part}_pattern": patterns[part] for part in PARTS})


@functools.cache
def tones(colour: str) -> tuple[np.ndarray, np.ndarray]:
    """The lighter and the darker tone (3,) of a colour of the palette.

    Of all mixtures with white and with black whose contrast is near the one that is wanted, the pair whose mean is
    nearest to the colour; where the margin does not allow the contrast, the pair with the most.
    """
    own = np.array(PALETTE[colour], float)
    others = np.array([value for name, value in PALETTE.items() if name != colour], float)
    best, best_key = (own, own), (-1.0, 0.0)
    for white in np.linspace(0, 0.8, 33):
        for black in np.linspace(0, 0.9, 37):
            light, dark = own + white * (255 - own), own * (1 - black)
            mean = _COVER * dark + (1 - _COVER) * light
            away = float(np.linalg.norm(mean - own) / np.linalg.norm(others - mean, axis=1).min())
            key = (min(float(LUMINANCE @ (light - dark)), _CONTRAST), -away)
            if away <= _MARGIN and key > best_key:
                best, best_key = (light, dark), key
    return best

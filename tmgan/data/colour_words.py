"""Words for colours: what they look like, roughly, and which of them may be said of the same thing.

Families are the eleven basic colour terms of English (Berlin and Kay, Basic Color Terms, 1969). A word may belong to
several of them: "turquoise" is said of what others call blue or green, so neither is false of it.
"""

from __future__ import annotations

_TABLE: dict[str, tuple[tuple[int, int, int], str]] = {
    "red": ((205, 40, 40), "red"),
    "reddish": ((175, 75, 65), "red brown orange"),
    "crimson": ((190, 25, 55), "red"),
    "scarlet": ((220, 40, 25), "red orange"),
    "maroon": ((115, 25, 35), "red brown purple"),
    "burgundy": ((120, 25, 50), "red brown purple"),
    "rufous": ((165, 75, 35), "red brown orange"),
    "rust": ((170, 80, 40), "red brown orange"),
    "rusty": ((170, 80, 40), "red brown orange"),
    "orange": ((240, 125, 25), "orange"),
    "orangish": ((215, 140, 75), "orange brown yellow"),
    "peach": ((250, 200, 165), "orange pink"),
    "amber": ((225, 155, 40), "orange yellow brown"),
    "yellow": ((248, 222, 60), "yellow"),
    "yellowish": ((215, 200, 110), "yellow brown"),
    "gold": ((215, 175, 55), "yellow orange brown"),
    "golden": ((215, 175, 55), "yellow orange brown"),
    "green": ((55, 150, 60), "green"),
    "greenish": ((110, 140, 90), "green"),
    "olive": ((120, 120, 50), "green brown yellow"),
    "lime": ((165, 220, 60), "green yellow"),
    "blue": ((45, 95, 205), "blue"),
    "bluish": ((100, 125, 175), "blue gray"),
    "navy": ((30, 40, 95), "blue black"),
    "indigo": ((65, 45, 140), "blue purple"),
    "turquoise": ((64, 205, 200), "blue green"),
    "aqua": ((90, 215, 220), "blue green"),
    "teal": ((20, 120, 125), "blue green"),
    "purple": ((130, 60, 170), "purple"),
    "purplish": ((120, 85, 140), "purple blue pink"),
    "violet": ((140, 70, 190), "purple blue"),
    "lavender": ((185, 160, 220), "purple pink blue"),
    "lilac": ((200, 165, 210), "purple pink"),
    "magenta": ((200, 40, 140), "purple pink red"),
    "fuchsia": ((215, 50, 150), "purple pink red"),
    "pink": ((240, 160, 180), "pink"),
    "pinkish": ((225, 175, 175), "pink"),
    "rose": ((225, 110, 135), "pink red"),
    "salmon": ((245, 145, 120), "pink orange"),
    "brown": ((115, 75, 45), "brown"),
    "brownish": ((130, 105, 80), "brown gray"),
    "chestnut": ((135, 65, 40), "brown red"),
    "tan": ((205, 175, 135), "brown yellow"),
    "buff": ((225, 195, 140), "brown yellow white orange"),
    "beige": ((225, 215, 190), "brown yellow white"),
    "cream": ((245, 235, 205), "white yellow"),
    "ivory": ((245, 240, 220), "white yellow"),
    "white": ((240, 240, 238), "white"),
    "whitish": ((220, 220, 215), "white gray"),
    "gray": ((128, 128, 128), "gray"),
    "grey": ((128, 128, 128), "gray"),
    "grayish": ((145, 145, 145), "gray"),
    "greyish": ((145, 145, 145), "gray"),
    "silver": ((190, 190, 195), "gray white"),
    "charcoal": ((65, 65, 70), "gray black"),
    "black": ((32, 32, 34), "black"),
    "blackish": ((60, 58, 58), "black gray"),
    "iridescent": ((40, 90, 90), "green blue purple black"),
}

COLOUR_WORDS: dict[str, tuple[int, int, int]] = {word: rgb for word, (rgb, _) in _TABLE.items()}
"""What each word looks like, roughly: red, green and blue in levels of 0 to 255."""


def families(word: str) -> tuple[str, ...]:
    """The basic colour terms that may be said of what `word` names, the commonest first."""
    return tuple(_TABLE[word][1].split())


def are_apart(one: str, other: str) -> bool:
    """Whether what is `one` cannot well be called `other`: two words of COLOUR_WORDS without a common family."""
    return set(families(one)).isdisjoint(families(other))

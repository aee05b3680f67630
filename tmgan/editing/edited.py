"""What an edit returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Edited:
    """An edit at the photo's own resolution.

    Attributes:
        picture: the edited photo.
        square: left, top and edge of the square that was edited, in pixels.
        composited: M * photo + (1 - M) * picture; None without a keep-mask.
        keep: the keep-mask M, greyscale, white = kept; None without one.
        notes: what of the photo's file could not be used, and where the object was found, as sentences.
        looks: for every known word how much the generator's positions looked at it: (word, (h, w) in [0, 1]).
    """

    picture: Image.Image
    square: tuple[int, int, int]
    composited: Image.Image | None
    keep: Image.Image | None
    notes: tuple[str, ...]
    looks: tuple[tuple[str, Tensor], ...]

    @cached_property
    def attention(self) -> list[tuple[str, Image.Image]]:
        """For every known word where the generator looked: (word, map), in the order of the text.

        A map is greyscale and has the square's size; white is where this word was looked at most, black least.
        """
        return [(word, _grey(weights, self.square[2])) for word, weights in self.looks]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one of many photos.

    Attributes:
        photo: as it was given.
        error: why it was not edited, a ValueError or OSError whose message names it; None if it was.
    """

    photo: str | Path | Image.Image
    error: Exception | None
    _edited: Edited | None

    @property
    def edited(self) -> Edited:
        """The edit. Where there is none, `error` is raised."""
        if self._edited is None:
            assert self.error is not None
            raise self.error
        return self._edited


def _grey(weights: Tensor, side: int) -> Image.Image:
    levels = (weights - weights.min()) / (weights.max() - weights.min()).clamp(min=1e-8)
    return Image.fromarray((levels * 255).byte().numpy()).resize((side, side), Image.Resampling.BICUBIC)

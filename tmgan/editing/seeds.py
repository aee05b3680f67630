"""The same edit with several seeds, small enough to stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tmgan.editing.compositing import to_tensor
from tmgan.editing.editor import Editor
from tmgan.editing.photo_file import read_photo

_EDGE = 256  # pixels of each picture


def edits_of_seeds(
    editor: Editor,
    photo: str | Path | Image.Image,
    square: tuple[int, int, int],
    text: str,
    seeds: Sequence[int],
    strength: float = 1.0,
) -> Tensor:
    """A square of a photo as it was, then edited with each seed: (1 + len(seeds), 3, 256, 256) in [-1, 1] of sRGB.

    Args:
        square: left, top and edge in pixels, such as Edited.square.

    Raises:
        ValueError: as Editor.edit.
    """
    whole, (left, top, side) = read_photo(photo), square
    seen = whole.colour.to_srgb(whole.over_white((left, top, left + side, top + side)))
    small = seen.resize((_EDGE, _EDGE), Image.Resampling.BILINEAR)
    edits = [editor.edit(small, text, seed=seed, strength=strength) for seed in seeds]
    return torch.cat([to_tensor(picture) for picture in (small, *edits)])

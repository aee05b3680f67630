"""What the network changes in its small square, at the photo's size and in its colours."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tmgan.editing.compositing import to_picture, to_tensor
from tmgan.editing.photo_file import Photo

_FEATHER = 0.04  # of the square's edge: over this width the change fades out towards the rest of the photo


def change_in(photo: Photo, before: Tensor, after: Tensor) -> Tensor:
    """after - before, pictures (1, 3, S, S) in [-1, 1] of sRGB, in the photo's colour space.

    Both are converted, and in 8 bits: so what the network leaves is exactly 0.
    """
    if photo.colour.is_srgb:
        return after - before
    there, here = (to_tensor(photo.colour.from_srgb(to_picture(images))) for images in (after, before))
    return there - here


def add_change(photo: Photo, change: Tensor, where: tuple[int, int, int]) -> Image.Image:
    """The photo's pixels plus a change (1, 3, S, S), enlarged to the square `where`: left, top, edge."""
    left, top, side = where
    change = F.interpolate(change, size=(side, side), mode="bicubic", align_corners=False)[0]
    change *= feather(side, left, top, photo.size)
    area = (left, top, left + side, top + side)
    if photo.alpha is not None:  # nothing is seen there, so nothing changes
        change *= torch.from_numpy(np.array(photo.alpha.crop(area)) > 0)
    full = torch.from_numpy(np.array(photo.rgb.crop(area))).permute(2, 0, 1).float() + change * 127.5
    result = photo.rgb.copy()
    result.paste(Image.fromarray(full.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()), (left, top))
    return result


def feather(side: int, left: int, top: int, size: tuple[int, int]) -> Tensor:
    """(side, side) weights: 1 inside, falling to 0 at those edges of the square that lie inside the photo.

    Args:
        left, top: of the square, in a photo of `size` (width, height).
    """
    width = max(1, round(_FEATHER * side))
    rise = ((torch.arange(side) + 0.5) / width).clamp(max=1.0)
    ones = torch.ones(side)
    across = (rise if left > 0 else ones) * (rise.flip(0) if left + side < size[0] else ones)
    down = (rise if top > 0 else ones) * (rise.flip(0) if top + side < size[1] else ones)
    return down[:, None] * across[None, :]

"""Compositing as in the paper's figure 1: M * photo + (1 - M) * edit, so that what the text does not mention stays
exactly as in the photo. M comes from what changed, from a network that knows the object, or from a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tmgan.config.methods import MethodConfig
from tmgan.data.mask_file import open_mask
from tmgan.editing.photo_file import WARNING_FILTERS
from tmgan.methods.image_comparing import keep_mask
from tmgan.methods.mask_providers import MaskProvider

_LOOK = 256  # edge of the square that a mask provider sees: a published training crop


class View(NamedTuple):
    """What a keep-mask may be made from.

    Attributes:
        photo: the whole photo as the network sees it: in sRGB, over white where it is transparent.
        square: left, top and edge of the square that is edited.
        before: that square at the generator's size, (1, 3, S, S) in [-1, 1].
        after: the generator's picture of it, likewise.
    """

    photo: Image.Image
    square: tuple[int, int, int]
    before: Tensor
    after: Tensor
    text: str


KeepSource = Callable[[View], Tensor]  # -> M of the square, (1, 1, h, w) of any size in [0, 1], 1 = keep


def keep_unchanged(method: MethodConfig) -> KeepSource:
    """Keep what histogram matching finds unchanged, with the method's threshold."""
    histogram = MethodConfig(keep_mask="histogram", histogram=method.histogram)

    def keep(view: View) -> Tensor:
        mask = keep_mask(histogram, view.before, view.after, None)
        assert mask is not None  # only keep_mask none has no mask
        return mask.float()

    return keep


def keep_without(provider: MaskProvider) -> KeepSource:
    """Keep everything but the object that the provider finds."""

    def keep(view: View) -> Tensor:
        left, top, side = view.square
        area = view.photo.crop((left, top, left + side, top + side)).resize((_LOOK, _LOOK), Image.Resampling.BILINEAR)
        return 1 - provider(to_tensor(area), [view.text]).float().cpu()

    return keep


def keep_file(path: Path) -> KeepSource:
    """Keep what is white in a picture of the photo's size. When used, ValueError if it is missing or does not fit."""

    def keep(view: View) -> Tensor:
        left, top, side = view.square
        with WARNING_FILTERS:
            mask = open_mask(path, view.photo.size, exif=True)
        return torch.from_numpy(np.array(mask.crop((left, top, left + side, top + side))))[None, None].float() / 255

    return keep


def keep_picture(keep: Tensor, size: tuple[int, int], square: tuple[int, int, int]) -> Image.Image:
    """M at the photo's size, greyscale: `keep` enlarged to the square, and 255 around it."""
    left, top, side = square
    inside = F.interpolate(keep, size=(side, side), mode="bilinear", align_corners=False)[0, 0]
    mask = Image.new("L", size, 255)
    mask.paste(Image.fromarray((inside * 255).round().byte().numpy()), (left, top))
    return mask


def composite(photo: Image.Image, edited: Image.Image, keep: Image.Image) -> Image.Image:
    """M * photo + (1 - M) * edited, for pictures of one size; exactly the photo where M is 255."""
    return Image.composite(photo, edited, keep)


def to_tensor(picture: Image.Image) -> Tensor:
    """(1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1


def to_picture(images: Tensor) -> Image.Image:
    """The first of images (B, 3, H, W) in [-1, 1], in 8 bits; the inverse of to_tensor."""
    pixels = ((images[0] + 1) * 127.5).round().clamp(0, 255).byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())

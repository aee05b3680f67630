"""Photos with their object recoloured, so that an edit has an answer. Not in the paper.

- `Recolour.hide`: what the caption names takes colours of other photos' objects. The right colours then stand in the
  caption only, and the photo itself is what the generator has to give back.
- `Recolour.swap`: a colour that the caption names becomes another one, in the photo as in the caption. What an object
  looks like then no longer tells its colours, where each kind of object has its own.

Both know nothing but the caption's colour words and a mask of the object: no parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

HIDDEN = 4  # named colours that `hide` may hide
DRAWS = HIDDEN + 7  # of the plan, for each photo: which are hidden, where new colours are picked, shades of two
_OBJECT = 0.9  # a pixel is picked where the mask is above this
_BLUR = 0.15  # squared distance of colours in [-1, 1] over which one word's pixels become another's
_SHADE = 0.15  # new colours of `swap` differ by as much from what their names look like
_LEAST_SHARE = 0.03  # of the object that a colour must have to be swapped


@dataclass(frozen=True)
class ColourTable:
    """The N colour words of a vocabulary.

    Attributes:
        ids: (N,) int64, their word ids.
        rgb: (N, 3) in [-1, 1], what they look like.
        alike: (N, N) bool, whether two may be said of the same.
    """

    ids: Tensor
    rgb: Tensor
    alike: Tensor


class Recolour:
    """Recolours objects by the colour words of their captions; table: on the device of the images."""

    def __init__(self, table: ColourTable):
        self.table = table

    @torch.no_grad()
    def hide(self, images: Tensor, object_mask: Tensor, tokens: Tensor, draws: Tensor, some: Tensor) -> Tensor:
        """Give what the captions name other colours, in some images.

        All of the object that looks like a named colour takes that of a pixel of another image's object, where the
        batch has one, and keeps its light and texture. Of more than HIDDEN named colours the draws choose.

        Args:
            images: (B, 3, S, S) in [-1, 1].
            object_mask: (B, 1, S, S) in [0, 1].
            tokens: (B, L), of the captions.
            draws: (B, DRAWS) in [0, 1], uniform.
            some: (B,) bool, which images.

        Returns:
            (B, 3, S, S) in [-1, 1], channels_last.
        """
        picked = _pick(images, object_mask, draws[:, :HIDDEN])
        shares = self._shares(images, object_mask)
        named = (tokens[:, :, None] == self.table.ids).any(1).to(torch.int32)  # (B, N)
        # Those that are named before the others, in the order of the table from a drawn one on.
        count = named.shape[1]
        start = (draws[:, -1:] * count).to(torch.int64)
        rank = count - (torch.arange(count, device=named.device) - start) % count
        order = (named * rank).topk(min(HIDDEN, count), dim=1)
        active = (order.values > 0) & some[:, None]
        output, taken = images, torch.zeros_like(named, dtype=torch.bool)
        for k in range(order.indices.shape[1]):
            words = self.table.alike[order.indices[:, k]] & ~taken  # what may be called brown and tan moves once
            taken = taken | (words & active[:, k, None])
            region = self._region(shares, words)
            other = picked[:, k].roll(k % max(1, len(images) - 1) + 1, 0)  # of another photo
            shift = (other - _mean(images, region)).masked_fill(~active[:, k, None], 0.0)
            output = output + region * shift[:, :, None, None]
        return output.clamp(-1, 1).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def swap(
        self, images: Tensor, object_mask: Tensor, tokens: Tensor, swap_tokens: Tensor, draws: Tensor, some: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Make some photos true of another caption, in which a colour is replaced or two are exchanged.

        All of the object that looks like the old colour takes a shade of the new one, and keeps its light and texture.

        Args:
            images, object_mask, tokens, draws: as for `hide`.
            swap_tokens: (B, L), the captions with colours replaced or exchanged.
            some: (B,) bool, which photos.

        Returns:
            The images (B, 3, S, S) in [-1, 1], channels_last; and (B,) bool, of which of them swap_tokens is true now.
            The others are unchanged: no colour differs, the object has none of it, or it is named twice and one of
            them stays.
        """
        is_colour = swap_tokens[:, :, None] == self.table.ids  # (B, L, N)
        was_colour = tokens[:, :, None] == self.table.ids
        changed = (is_colour != was_colour).any(2)  # (B, L)
        first = changed.to(torch.int32).argmax(1)
        rows = torch.arange(len(images), device=images.device)
        # The last place that had another colour than the first: in an exchange one may stand at both ends.
        others = changed & ~(was_colour & was_colour[rows, first][:, None]).any(2)
        last = changed.shape[1] - 1 - others.flip(1).to(torch.int32).argmax(1)
        two = others.any(1)
        last = torch.where(two, last, first)
        stay = (was_colour & ~changed[:, :, None]).any(1)  # (B, N), colours that the caption still names elsewhere
        stay = (stay[:, :, None] & self.table.alike).any(1)
        shares = self._shares(images, object_mask)
        output, true = images, some & changed.any(1)
        for slot, place in enumerate((first, last)):
            old, new = was_colour[rows, place], is_colour[rows, place]  # (B, N) one-hot, or nothing
            true = true & old.any(1) & new.any(1) & ~(old & stay).any(1)
            region = self._region(shares, (old[:, :, None] & self.table.alike).any(1))
            true = true & (region.sum((1, 2, 3)) > _LEAST_SHARE * object_mask.sum((1, 2, 3)).clamp(min=1))
            start = HIDDEN + 3 * slot
            shade = (new[:, :, None] * self.table.rgb).sum(1) + (2 * draws[:, start : start + 3] - 1) * _SHADE
            shift = shade - _mean(images, region)
            shift = shift if slot == 0 else shift.masked_fill(~two[:, None], 0.0)
            output = output + region * shift[:, :, None, None]
        output = torch.where(true[:, None, None, None], output, images)
        return output.clamp(-1, 1).contiguous(memory_format=torch.channels_last), true

    def _shares(self, images: Tensor, object_mask: Tensor) -> Tensor:
        """(B, N, S, S): how much of the object each pixel is of each colour word; they add up to the mask."""
        red, green, blue = self.table.rgb.t()[:, None, :, None, None]  # (1, N, 1, 1) each
        near = 2 * (images[:, :1] * red + images[:, 1:2] * green + images[:, 2:] * blue)
        squares = self.table.rgb.square().sum(1).view(1, -1, 1, 1)
        return torch.softmax((near - squares) / _BLUR, 1) * object_mask  # less the pixel's own square, which is for all

    @staticmethod
    def _region(shares: Tensor, words: Tensor) -> Tensor:
        """shares (B, N, S, S), words (B, N) bool -> (B, 1, S, S): what any of these words names."""
        return (shares * words[:, :, None, None]).sum(1, keepdim=True)


def _mean(images: Tensor, region: Tensor) -> Tensor:
    """(B, 3), the mean colour of a region (B, 1, S, S)."""
    return (images * region).sum((2, 3)) / region.sum((1, 2, 3)).clamp(min=1)[:, None]


def _pick(images: Tensor, object_mask: Tensor, draws: Tensor) -> Tensor:
    """draws (B, K) -> (B, K, 3), the colours of pixels of each object, or of a photo without one, a little smoothed."""
    inside = (object_mask > _OBJECT).flatten(1).to(torch.int32).cumsum(1, dtype=torch.int32)
    count = inside[:, -1:]
    place = torch.searchsorted(inside, (draws * count).to(torch.int32), right=True)
    place = torch.where(count > 0, place, (draws * inside.shape[1]).to(torch.int64)).clamp(max=inside.shape[1] - 1)
    smooth = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False).flatten(2)
    return smooth.gather(2, place[:, None].expand(-1, 3, -1)).transpose(1, 2)

"""Photos with their object recoloured, so that an edit has an answer. Not in the paper.

- `Recolour.hide`: patches of the object take colours of other photos' objects. The right colours then stand in the
  caption only, and the photo itself is what the generator has to give back.
- `Recolour.swap`: a colour that the caption names becomes another one, in the photo as in the caption. What an object
  looks like then no longer tells its colours, where each kind of object has its own.

Both know nothing but the caption's colour words and a mask of the object: no parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PASSES = 6  # of `hide`
DRAWS = 2 * PASSES + 6  # of the plan, for each photo: where old and new colours are picked; shades of two colours
_ALIKE, _SOFT = 0.55, 0.06  # distance of colours in [-1, 1] up to which pixels belong to a patch, and its softness
_OBJECT = 0.9  # a pixel is picked where the mask is above this
_SHADE = 0.15  # new colours of `swap` differ by as much from what their names look like
_LEAST_SHARE = 0.03  # of the object that a colour must have to be swapped
_BLUR = 0.15  # squared distance of colours over which one word's pixels become another's


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
    """Recolours objects by the colour words of their captions.

    Args:
        table: on the device of the images.
        colours: which patches `hide` recolours: "named", those of colours that the caption names; "all", all.
    """

    def __init__(self, table: ColourTable, colours: Literal["named", "all"] = "named"):
        self.table, self.colours = table, colours

    @torch.no_grad()
    def hide(self, images: Tensor, object_mask: Tensor, tokens: Tensor, draws: Tensor, some: Tensor) -> Tensor:
        """Recolour patches of the objects of some images.

        A patch is all of the object that has about the colour of one of its pixels; `PASSES` of them take the colour of
        a pixel of another image's object.

        Args:
            images: (B, 3, S, S) in [-1, 1].
            object_mask: (B, 1, S, S) in [0, 1].
            tokens: (B, L), of the captions.
            draws: (B, DRAWS) in [0, 1), uniform.
            some: (B,) bool, which images.

        Returns:
            (B, 3, S, S) in [-1, 1], channels_last.
        """
        inside = (object_mask > _OBJECT).flatten(1).to(torch.int32).cumsum(1, dtype=torch.int32)
        count = inside[:, -1:]
        place = torch.searchsorted(inside, (draws[:, : 2 * PASSES] * count).to(torch.int32), right=True)
        place = place.clamp(max=inside.shape[1] - 1)
        picked = _smooth(images).flatten(2).gather(2, place[:, None].expand(-1, 3, -1)).transpose(1, 2)
        old, new = picked[:, :PASSES], picked[:, PASSES:]
        active = (some & (count[:, 0] > 0))[:, None].expand(-1, PASSES)
        if self.colours == "named":
            nearest = (old[:, :, None] - self.table.rgb).square().sum(3).argmin(2)  # (B, PASSES)
            active = active & self._named(tokens).gather(1, nearest)
        output = images
        for k in range(PASSES):
            colour = old[:, k, :, None, None]
            other = new[:, k, :, None, None].roll(k % max(1, len(images) - 1) + 1, 0)  # of another photo
            distance = (images - colour).square().sum(1, keepdim=True).sqrt()
            share = torch.sigmoid((_ALIKE - distance) / _SOFT) * object_mask * active[:, k].view(-1, 1, 1, 1)
            output = output + share * (images + other - colour - output)
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
        last = changed.shape[1] - 1 - changed.flip(1).to(torch.int32).argmax(1)
        stay = (was_colour & ~changed[:, :, None]).any(1)  # (B, N), colours that the caption still names elsewhere
        stay = (stay[:, :, None] & self.table.alike).any(1)
        distance = (images[:, None] - self.table.rgb[:, :, None, None]).square().sum(2)
        shares = torch.softmax(-distance / _BLUR, 1)  # (B, N, S, S)
        rows = torch.arange(len(images), device=images.device)
        output, true = images, some & changed.any(1)
        done = torch.zeros_like(stay)
        for slot, place in enumerate((first, last)):
            old, new = was_colour[rows, place], is_colour[rows, place]  # (B, N) one-hot, or nothing
            again = (old & done).any(1)
            done = done | old
            true = true & old.any(1) & new.any(1) & ~(old & stay).any(1)
            meant = (old[:, :, None] & self.table.alike).any(1)  # (B, N)
            region = (shares * meant[:, :, None, None]).sum(1, keepdim=True) * object_mask
            area = region.sum((1, 2, 3))
            true = true & (area > _LEAST_SHARE * object_mask.sum((1, 2, 3)).clamp(min=1))
            mean = (images * region).sum((2, 3)) / area.clamp(min=1)[:, None]
            start = 2 * PASSES + 3 * slot
            shade = new.to(images.dtype) @ self.table.rgb + (2 * draws[:, start : start + 3] - 1) * _SHADE
            shift = (shade - mean).masked_fill(again[:, None], 0.0)
            output = output + region * shift[:, :, None, None]
        output = torch.where(true[:, None, None, None], output, images)
        return output.clamp(-1, 1).contiguous(memory_format=torch.channels_last), true

    def _named(self, tokens: Tensor) -> Tensor:
        """tokens (B, L) -> (B, N) bool: the colours that a caption may mean."""
        return ((tokens[:, :, None] == self.table.ids).any(1)[:, :, None] & self.table.alike).any(1)


def _smooth(images: Tensor) -> Tensor:
    return F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)

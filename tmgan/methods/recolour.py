"""Photos with their object recoloured, to be restored by their own captions. Not in the paper.

A patch of the object, all of it that has about the colour of one of its pixels, takes the colour of another photo's
object, several times over. The right colours then stand in the caption only, and the right picture is known: an edit
with an answer, made from any captioned photo with a mask of its object. What the caption does not name keeps its
colour, in the picture and in the answer.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan.data.colour_words import COLOUR_WORDS, are_apart
from tmgan.data.vocabulary import Vocabulary

PASSES = 6
DRAWS = 2 * PASSES  # of the plan, for each photo: where the old colours are picked, and where the new ones
_ALIKE, _SOFT = 0.55, 0.06  # distance of colours in [-1, 1] up to which pixels belong to a patch, and its softness
_OBJECT = 0.9  # a pixel is picked where the mask is above this


class Recolour:
    """recolour(images, object_mask, tokens, draws, some) -> the images with the objects of some of them recoloured.

    Args:
        vocabulary: of the captions; its colour words are those of data/colour_words.py.
        colours: "named" recolours patches whose nearest colour word, or one that may be said of the same, is in the
            caption; "all" all of them.

    Raises:
        ValueError: "named", and no word is a colour.
    """

    def __init__(self, vocabulary: Vocabulary, colours: Literal["named", "all"], device: torch.device):
        names = [word for word in vocabulary.words if word in COLOUR_WORDS]
        if colours == "named" and not names:
            raise ValueError(
                "No word of the captions is a colour, so method.restore has no patch to recolour. Recolour all of the "
                "object (--method.restore.colours all), or do not restore (--method.restore.p 0)."
            )
        self.colours = colours
        alike = [[not are_apart(one, other) for other in names] for one in names]
        self.alike = torch.tensor(alike, device=device).view(len(names), len(names))
        self.ids = torch.tensor([vocabulary.words.index(word) for word in names], device=device)
        self.rgb = torch.tensor([COLOUR_WORDS[word] for word in names], device=device).view(-1, 3) / 127.5 - 1

    @torch.no_grad()
    def __call__(self, images: Tensor, object_mask: Tensor, tokens: Tensor, draws: Tensor, some: Tensor) -> Tensor:
        """Recolour.

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
        place = torch.searchsorted(inside, (draws * count).to(torch.int32), right=True)  # (B, DRAWS)
        place = place.clamp(max=inside.shape[1] - 1)
        smooth = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False).flatten(2)
        picked = smooth.gather(2, place[:, None].expand(-1, 3, -1)).transpose(1, 2)  # (B, DRAWS, 3)
        old, new = picked[:, :PASSES], picked[:, PASSES:]
        active = (some & (count[:, 0] > 0))[:, None].expand(-1, PASSES)
        if self.colours == "named":
            nearest = (old[:, :, None] - self.rgb).square().sum(3).argmin(2)  # (B, PASSES)
            named = (tokens[:, :, None, None] == self.ids).logical_and(self.alike).any(3).any(1)  # (B, colours)
            active = active & named.gather(1, nearest)
        output = images
        for k in range(PASSES):
            colour = old[:, k, :, None, None]
            other = new[:, k, :, None, None].roll(k % max(1, len(images) - 1) + 1, 0)  # of another photo
            distance = (images - colour).square().sum(1, keepdim=True).sqrt()
            share = torch.sigmoid((_ALIKE - distance) / _SOFT) * object_mask * active[:, k].view(-1, 1, 1, 1)
            output = output + share * (images + other - colour - output)
        return output.clamp(-1, 1).contiguous(memory_format=torch.channels_last)

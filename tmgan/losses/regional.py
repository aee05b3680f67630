"""Losses of what stays of the photo, and where: what the text does not mention should."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan.models.precision import at_least_float32
from tmgan_kernels import masked_mae

_GRID = 32  # edge of the grid of colours that `palette_loss` compares


def mean_difference(photo: Tensor, edit: Tensor) -> Tensor:
    """Mean of abs(edit - photo), scalar in fp32 or better; photo and edit (B, 3, S, S).

    As published, ManiGAN's detail correction is rewarded for it: it must not copy what it sees of the photo.
    """
    return masked_mae(photo, edit, torch.ones_like(photo[:, :1]), alpha=1.0)


def restoration_loss(photo: Tensor, edit: Tensor, region: Tensor) -> Tensor:
    """Mean of abs(edit - photo) over a region, scalar in fp32 or better: 0 where the region is empty. Not in the paper.

    Args:
        photo, edit: (B, 3, S, S).
        region: (B, 1, S, S) in [0, 1], 1 where the edit has to equal the photo.
    """
    area = at_least_float32(region).sum().clamp(min=1.0) / region.numel()
    return masked_mae(photo, edit, region, alpha=1.0) / area


def palette_loss(photo: Tensor, edit: Tensor, region: Tensor) -> Tensor:
    """How far the colours of a region are from the photo's, wherever in the region they lie. Not in the paper.

    A sliced Wasserstein distance: along each of 7 directions of the colour space, the mean difference of the sorted
    colours of a grid of 32 x 32. An error by position is least for a timid edit, where it is not known which part a
    text means; this one is least for an edit that has as much of each colour as the photo, in whichever part.

    Colours are means of cells of S/32 pixels, so finer detail is not compared; at a soft edge of the region both
    images' colours are multiplied by it. The mean is over the regions of the batch: large objects count more.

    Args:
        photo, edit: (B, 3, S, S) in [-1, 1].
        region: (B, 1, S, S) in [0, 1].

    Returns:
        Scalar in fp32 or better: 0 where the region is empty.
    """
    region = at_least_float32(region)
    cell = max(1, region.shape[-1] // _GRID)
    difference = _sorted_colours(photo, region, cell) - _sorted_colours(edit, region, cell)
    area = F.avg_pool2d(region, cell).sum().clamp(min=1.0)
    return difference.abs().mean(1).sum() / area


def _sorted_colours(image: Tensor, region: Tensor, cell: int) -> Tensor:
    """(B, 7, n): what the region's cells have along each direction, sorted."""
    red, green, blue = F.avg_pool2d(at_least_float32(image) * region, cell).flatten(2).unbind(1)
    pairs = [(red - green), (green - blue), (red - blue)]
    # Directions of length 1, written out: a matrix product may be rounded to TF32.
    lines = [red, green, blue, *(pair / 2**0.5 for pair in pairs), (red + green + blue) / 3**0.5]
    return torch.stack(lines, 1).sort(dim=2).values


def keep_mask_loss(keep_logits: Tensor, keep: Tensor) -> Tensor:
    """Cross entropy of the generator's own keep-mask against another one; scalar in fp32 or better. Not in the paper.

    Without it a generator that may keep its input learns to keep everything: a copy looks real, and fits every photo
    whose target text is its own caption.

    Args:
        keep_logits: (B, 1, S, S), of the generator's mask.
        keep: (B, 1, S, S) in [0, 1].
    """
    logits = at_least_float32(keep_logits)
    return F.binary_cross_entropy_with_logits(logits, keep.to(logits.dtype))

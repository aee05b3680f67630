"""Losses of what stays of the photo, and where: what the text does not mention should."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan.models.precision import at_least_float32
from tmgan_kernels import masked_mae


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

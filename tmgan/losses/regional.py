"""Losses about regions: what the text does not speak of should stay."""

import torch.nn.functional as F
from torch import Tensor

from tmgan.models.layers import at_least_float32


def keep_mask_loss(keep_logits: Tensor, keep: Tensor) -> Tensor:
    """Cross entropy of the generator's own keep-mask, as logits, against a given one. Not in the paper.

    Without it a generator that may keep its input learns to keep everything: a copy looks real, and fits every photo
    whose target text is its own caption. keep_logits, keep: (B, 1, S, S), keep in [0, 1]. Scalar in fp32 or better.
    """
    logits = at_least_float32(keep_logits)
    return F.binary_cross_entropy_with_logits(logits, keep.to(logits.dtype))

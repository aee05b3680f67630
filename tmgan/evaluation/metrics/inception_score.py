"""Inception score (Salimans et al., NeurIPS 2016): are the pictures clear, and are they varied?

    exp(mean over pictures of KL(p(class | picture) || p(class)))

Between 1 (every picture gets the same answer) and the number of classes. Higher is better; the paper reads it the
other way round.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class InceptionScore(NamedTuple):
    """Mean and unbiased standard deviation over the splits.

    The latter is None for a single split, which has no spread; as published it is NaN, which JSON cannot hold.
    """

    mean: float
    std: float | None


@torch.no_grad()
def inception_score(logits: Tensor, splits: int = 10) -> InceptionScore:
    """Score of N pictures from their logits (N, C), in float64.

    As published: consecutive splits of floor(N / splits) rows in their order, the remaining rows left out, and the
    marginal p(class) taken within a split. So the score depends on the order, and on N.

    Raises:
        ValueError: for fewer rows than splits.
        FloatingPointError: for logits that are not finite.
    """
    if logits.ndim != 2:
        raise ValueError(f"inception_score: logits have the shape {tuple(logits.shape)}, expected (N, classes).")
    if not 1 <= splits <= len(logits):
        raise ValueError(
            f"inception_score: {splits} splits of {len(logits)} pictures; use 1 to {len(logits)} splits, "
            "or more pictures."
        )
    if not torch.isfinite(logits).all():
        raise FloatingPointError(
            "inception_score: logits hold numbers that are not finite; look at the pictures they were made from."
        )
    size = len(logits) // splits
    # In logarithms: a probability that underflows to 0 has a finite logarithm here, and contributes 0, not NaN.
    log_p = torch.log_softmax(logits[: size * splits].double(), 1).view(splits, size, -1)
    log_marginal = log_p.logsumexp(1, keepdim=True) - math.log(size)
    scores = (log_p.exp() * (log_p - log_marginal)).sum(2).mean(1).exp()
    return InceptionScore(scores.mean().item(), scores.std(correction=1).item() if splits > 1 else None)

"""Kernel Inception distance (Binkowski et al., ICLR 2018), the exact unbiased estimate over all pairs of the sets.

Published code averages over random subsets, which only adds noise to the same estimate. Unlike FID its
expectation does not depend on the number of pictures, only its variance does; it can come out slightly below zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TILE = 2048  # rows of one tile of the kernel matrix: 32 MiB in float64


@torch.no_grad()
def kid(real: Tensor, fake: Tensor) -> float:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, in float64. Lower is better; often shown x1000.

    Memory: one tile, whatever N and M.

    Args:
        real: (N, D) features of any floating type.
        fake: (M, D), on the same device.

    Raises:
        ValueError: for fewer than two rows per side or other shapes.
        FloatingPointError: for numbers that are not finite.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"kid: features have the shapes {tuple(real.shape)} and {tuple(fake.shape)}, expected (N, D) and (M, D)."
        )
    n, m = len(real), len(fake)
    if min(n, m) < 2:
        raise ValueError(f"kid: {n} real and {m} generated pictures, needs two or more of each.")
    result = _within(real) / (n * (n - 1)) + _within(fake) / (m * (m - 1)) - 2 * _between(real, fake) / (n * m)
    if not torch.isfinite(result):
        raise FloatingPointError(
            "kid: features hold numbers that are not finite; look at the pictures they were made from."
        )
    return result.item()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """(b, D), (c, D) -> (b, c)."""
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def _between(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([_kernel(a, b).sum() for a in x.split(_TILE) for b in y.split(_TILE)]).sum()


def _within(x: Tensor) -> Tensor:
    """Sum over all ordered pairs of different rows. The kernel is symmetric: tiles off the diagonal count twice."""
    tiles, total = x.split(_TILE), x.new_zeros((), dtype=torch.float64)
    for i, tile in enumerate(tiles):
        own = _kernel(tile, tile)
        total = total + own.sum() - own.trace()
        for other in tiles[i + 1 :]:
            total = total + 2 * _kernel(tile, other).sum()
    return total

"""The still centre crops of a pack's tiles, for pictures and metrics."""

from __future__ import annotations

import torch
from torch import Tensor

from tmgan_kernels import gather_crop


def centre_crops(tiles: Tensor, index: Tensor, size: int, value_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """The centres of the tiles `index`, (B, C, size, size) float32 in `value_range`."""
    corner = torch.full_like(index, (tiles.shape[1] - size) // 2)
    return gather_crop(tiles, index, corner, corner, torch.zeros_like(index, dtype=torch.bool), size, value_range)

"""The loader that holds the whole set as uint8 tiles: on the GPU, or memory-mapped on the CPU.

Crop, flip and normalisation are one gather; there are no worker processes, no queue and no state.
"""
from __future__ import annotations

import torch
from torch import Tensor

from tmgan.data.loaders.batch import Batch, Columns
from tmgan.plan import Plan, Planner
from tmgan_kernels import gather_crop


def planned_crops(tiles: Tensor, plan: Plan, size: int, value_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """The crops that `plan` asks for, (B, C, size, size) float32, channels_last, where `tiles` (N, T, T, C) lie."""
    index, top, left, flip = (tensor.to(tiles.device, non_blocking=True)
                              for tensor in (plan.index, plan.top, plan.left, plan.flip))
    return gather_crop(tiles, index, top, left, flip, size, value_range)


def centre_crops(tiles: Tensor, index: Tensor, size: int, value_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """The still centres of some tiles, (B, C, size, size), for pictures and metrics."""
    corner = torch.full_like(index, (tiles.shape[1] - size) // 2)
    return gather_crop(tiles, index, corner, corner, torch.zeros_like(index, dtype=torch.bool), size, value_range)


class ResidentLoader:
    """A Loader. tiles: uint8 (N, T, T, 3). masks: uint8 (N, T, T, 1) with 255 = object, or None for a run without."""

    def __init__(self, planner: Planner, columns: Columns, tiles: Tensor, masks: Tensor | None, size: int):
        self.planner, self.columns, self.size = planner, columns, size
        on_gpu = columns.device.type == "cuda"
        self.tiles = tiles.to(columns.device) if on_gpu else tiles
        self.masks = masks.to(columns.device) if on_gpu and masks is not None else masks

    def __call__(self, step: int) -> Batch:
        plan, keep = self.planner(step), None
        if self.masks is not None:
            keep = 1.0 - planned_crops(self.masks, plan, self.size, value_range=(0.0, 1.0))
        return self.columns.batch(plan, planned_crops(self.tiles, plan, self.size), keep)

    def close(self) -> None:
        """Nothing runs beside this process."""

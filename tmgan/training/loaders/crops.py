"""Crops that a plan asks for, from tiles or from pictures that were cut elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from tmgan.training.plan import Plan
from tmgan_kernels import gather_crop


def planned_crops(tiles: Tensor, plan: Plan, size: int, value_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """The crops of `plan`, (B, C, size, size) float32, channels_last, on the device of tiles (N, T, T, C)."""
    index, top, left, flip = (
        tensor.to(tiles.device, non_blocking=True) for tensor in (plan.index, plan.top, plan.left, plan.flip)
    )
    return gather_crop(tiles, index, top, left, flip, size, value_range)


def finish_on_device(
    crops: Tensor, flip: Tensor, device: torch.device, value_range: tuple[float, float] = (-1.0, 1.0)
) -> Tensor:
    """Crops (B, S, S, C) uint8 in the host's memory, flipped and normalised on the device: (B, C, S, S) float32.

    The copy to a GPU goes through pinned memory and waits for nothing.
    """
    if device.type == "cuda":
        crops, flip = crops.pin_memory().to(device, non_blocking=True), flip.to(device, non_blocking=True)
    rows = torch.arange(len(crops), device=device)
    corner = torch.zeros_like(rows)
    return gather_crop(crops, rows, corner, corner, flip, crops.shape[1], value_range)


def host_keep_masks(masks: Tensor | None, plan: Plan, size: int, device: torch.device) -> Tensor | None:
    """Keep-masks (B, 1, size, size) on the device from object masks (N, T, T, 1) in the host's memory; None if none."""
    if masks is None:
        return None
    crops = torch.stack(
        [
            masks[index, top : top + size, left : left + size]
            for index, top, left in zip(plan.index.tolist(), plan.top.tolist(), plan.left.tolist(), strict=True)
        ]
    )
    return 1.0 - finish_on_device(crops, plan.flip, device, value_range=(0.0, 1.0))

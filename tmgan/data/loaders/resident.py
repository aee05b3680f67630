"""The loader that holds the whole set as uint8 tiles: on the GPU, or memory-mapped on the CPU.

Crop, flip and normalisation are one gather; there are no worker processes, no queue and no state.
"""
from __future__ import annotations

import torch
from torch import Tensor

from tmgan.data.loaders.batch import Batch
from tmgan.data.pack import Pack
from tmgan.plan import CaptionTable, Plan
from tmgan_kernels import gather_crop


def centre_crops(tiles: Tensor, index: Tensor, size: int, value_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """The still centres of some tiles, (B, C, size, size), for pictures and metrics."""
    corner = torch.full_like(index, (tiles.shape[1] - size) // 2)
    return gather_crop(tiles, index, corner, corner, torch.zeros_like(index, dtype=torch.bool), size, value_range)


class ResidentLoader:
    """loader(plan) -> Batch. masks: the run uses the pack's masks, which must be there."""

    def __init__(self, pack: Pack, table: CaptionTable, size: int, device: torch.device, masks: bool):
        on_gpu = device.type == "cuda"
        self.device, self.size = device, size
        self.tiles = pack.tiles.to(device) if on_gpu else pack.tiles
        self.masks = (pack.masks.to(device) if on_gpu else pack.masks) if masks else None
        self.tokens, self.lengths = table.tokens.to(device), table.lengths.to(device)
        self.class_ids = pack.class_ids.to(device)

    def __call__(self, plan: Plan) -> Batch:
        def here(tensor: Tensor) -> Tensor:
            return tensor.to(self.device, non_blocking=True)

        index, top, left, flip = here(plan.index), here(plan.top), here(plan.left), here(plan.flip)
        target, caption, target_caption = here(plan.target_index), here(plan.caption), here(plan.target_caption)
        images = gather_crop(self.tiles, index, top, left, flip, self.size)
        keep = None
        if self.masks is not None:
            keep = 1.0 - gather_crop(self.masks, index, top, left, flip, self.size, value_range=(0.0, 1.0))
        return Batch(images, keep, self.class_ids[index], self.tokens[caption], self.lengths[caption],
                     self.class_ids[target], self.tokens[target_caption], self.lengths[target_caption],
                     target != index, here(plan.noise), here(plan.eps), here(plan.blur_sizes))

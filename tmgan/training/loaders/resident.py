"""The loader that holds the whole set as uint8 tiles: on the GPU, or memory-mapped on the CPU.

Crop, flip and normalisation are one gather; there are no worker processes, no queue and no state.
"""

from __future__ import annotations

from torch import Tensor

from tmgan.training.loaders.batch import Batch, Columns
from tmgan.training.loaders.crops import planned_crops
from tmgan.training.plan import Planner


class ResidentLoader:
    """A Loader on tiles in memory.

    Args:
        tiles: (N, T, T, 3) uint8.
        masks: (N, T, T, 1) uint8 with 255 = object, or None for a run without.
    """

    pixels = "tiles"

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

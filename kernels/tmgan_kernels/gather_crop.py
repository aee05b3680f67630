"""Gather, crop, flip and normalise training images from a resident uint8 array: the whole augmentation in one call.

Pure function of its arguments (the randomness is in `index`, `top`, `left` and `flip`), so a step can be replayed.
"""

import torch
from torch import Tensor

from tmgan_kernels._dispatch import choose


def gather_crop_eager(
    tiles: Tensor,
    index: Tensor,
    top: Tensor,
    left: Tensor,
    flip: Tensor,
    size: int,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> Tensor:
    """The definition of `gather_crop` in plain PyTorch."""
    low, high = value_range
    step = torch.arange(size, device=tiles.device)
    rows = top[:, None] + step
    columns = left[:, None] + torch.where(flip[:, None], size - 1 - step, step)
    crops = tiles[index[:, None, None], rows[:, :, None], columns[:, None, :]]  # (B, size, size, C)
    # Multiply before dividing: 255 then maps to `high` exactly, for any range.
    values = crops.to(torch.float32).mul_(high - low).div_(255.0).add_(low)
    return values.permute(0, 3, 1, 2)


def gather_crop(
    tiles: Tensor,
    index: Tensor,
    top: Tensor,
    left: Tensor,
    flip: Tensor,
    size: int,
    value_range: tuple[float, float] = (-1.0, 1.0),
    impl: str = "auto",
) -> Tensor:
    """Cut one normalised square out of each chosen tile.

    Args:
        tiles: uint8 (N, T, T, C), bytes 0 to 255.
        index: int64 (B,), which tile.
        top, left: int64 (B,), upper left corner of the crop, 0 <= corner <= T - size. A corner outside this range is an
            IndexError on the CPU and a device assertion on a GPU: checking it here would synchronise the host.
        flip: bool (B,), mirror the crop left to right.
        size: edge of the crops, in pixels.
        value_range: (low, high) that 0 and 255 map to: value = byte * (high - low) / 255 + low.
        impl: "auto" or "eager".

    Returns:
        float32 (B, C, size, size) with channels_last strides.
    """
    if tiles.dtype != torch.uint8 or tiles.dim() != 4 or tiles.shape[1] != tiles.shape[2]:
        raise ValueError(f"gather_crop: tiles must be uint8 (N, T, T, C), got {tiles.dtype} {tuple(tiles.shape)}")
    if not 0 < size <= tiles.shape[1]:
        raise ValueError(f"gather_crop: size {size} does not fit tiles with an edge of {tiles.shape[1]}")
    choose("gather_crop", impl, tiles, index, top, left, flip)
    return gather_crop_eager(tiles, index, top, left, flip, size, value_range)

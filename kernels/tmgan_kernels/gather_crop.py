"""Gather, crop, flip and normalise training images from a resident uint8 array: the whole augmentation in one call.

    out[b, :, r, c] = tiles[index[b], top[b] + r, left[b] + c', :] * (high - low) / 255 + low
    c' = size - 1 - c if flip[b] else c

Pure function of its arguments (the randomness is in `index`, `top`, `left` and `flip`), so a step can be replayed.
Reads 1 and writes 4 bytes a value: 15 bytes a pixel of three channels. Not differentiable, since the tiles are bytes.
Every implementation gives the same bits.

Stores are 16 bytes wide, loads a byte: a crop starts anywhere. Four neighbouring bytes are two aligned words and a
shift (three, flipped), but to take them apart again costs more instructions than the loads saved, and the load units
have time: what a program of the first version lacked was instructions (29 a value), most of them the place of each
value. Four values now share it: 16 a value, or 22 flipped.
"""

import math

import torch
from torch import Tensor

from tmgan_kernels import _op
from tmgan_kernels._dispatch import choose
from tmgan_kernels._stream import my_block
from tmgan_kernels._triton import jit, tl, triton


# ---------------------------------------------------------------- definition
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
    last = tiles.shape[1] - size
    inside = (index >= 0) & (index < len(tiles)) & (top >= 0) & (top <= last) & (left >= 0) & (left <= last)
    if not tiles.is_cuda and not inside.all():
        raise IndexError(
            f"gather_crop: crop {inside.logical_not().nonzero()[0].item()} lies outside the tiles: index "
            f"must be 0 to {len(tiles) - 1}, top and left 0 to {last}"
        )
    index, top, left = (torch.where(inside, place, 0) for place in (index, top, left))
    step = torch.arange(size, device=tiles.device)
    rows = top[:, None] + step
    columns = left[:, None] + torch.where(flip[:, None], size - 1 - step, step)
    crops = tiles[index[:, None, None], rows[:, :, None], columns[:, None, :]]  # (B, size, size, C)
    # Multiply before dividing: 255 then maps to low + (high - low), without the rounding of a quotient. Divide by a
    # tensor: instead of dividing by a number, CUDA would multiply with its rounded reciprocal.
    scale = torch.full((), 255.0, device=tiles.device)
    offset = torch.where(inside, low, math.nan)[:, None, None, None]
    values = crops.to(torch.float32).mul_(high - low).div_(scale).add_(offset)
    return values.permute(0, 3, 1, 2)


# -------------------------------------------------------------------- kernel
@jit
def gather_kernel(
    tiles_ptr,
    index_ptr,
    top_ptr,
    left_ptr,
    flip_ptr,
    out_ptr,
    N,
    T,
    stride_n,
    stride_h,
    stride_w,
    stride_c,
    SIZE: tl.constexpr,
    C: tl.constexpr,
    LOW: tl.constexpr,
    SPAN: tl.constexpr,
    V: tl.constexpr,
    DENSE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK consecutive values of one output image, in memory order (row, column, channel).

    V of them are a thread's, in one row, and share the arithmetic of their place. DENSE: so are the bytes of a tile's
    row, and those of V values that are not flipped are at one address and the V - 1 after it.
    """
    image, block = my_block(SIZE * SIZE * C, BLOCK)
    tile = tl.load(index_ptr + image)
    top = tl.load(top_ptr + image)
    left = tl.load(left_ptr + image)
    inside = (tile >= 0) & (tile < N) & (top >= 0) & (top <= T - SIZE) & (left >= 0) & (left <= T - SIZE)
    # Only the corner's offset needs 64 bits. A crop outside the tiles reads the first of them and becomes NaN.
    tiles_ptr += tl.where(inside, tile * stride_n + top * stride_h + left * stride_w, 0)
    # All 256 results: eager's bits, since this division rounds correctly and no product meets a sum to be fused with.
    table = tl.div_rn(tl.arange(0, 256).to(tl.float32) * SPAN, 255.0) + tl.where(inside, LOW, float("nan"))
    group = (block * (BLOCK // V) + tl.arange(0, BLOCK // V)[:, None]).to(tl.uint32)  # unsigned: cheaper to divide
    row = (group // (SIZE * C // V)).to(tl.int32)
    start = (group % (SIZE * C // V)).to(tl.int32) * V
    along = start + tl.arange(0, V)[None, :]
    value = group * V + tl.arange(0, V)[None, :]
    real = group < SIZE * SIZE * C // V
    tiles_ptr += row * stride_h
    flip = tl.load(flip_ptr + image)
    if DENSE:
        if flip:
            # Pixels backwards, channels forwards. One division a group: the channels follow from that of the first.
            channel = start % C + tl.arange(0, V)[None, :]
            for _ in tl.static_range((V + C - 2) // C):
                channel = tl.where(channel >= C, channel - C, channel)
            byte = tl.load(tiles_ptr + ((SIZE - 1) * C - along + 2 * channel), mask=real, other=0)
        else:
            byte = tl.load(tiles_ptr + along, mask=real, other=0)
    else:
        column = tl.where(flip, SIZE - 1 - along // C, along // C)
        byte = tl.load(tiles_ptr + column * stride_w + (along % C) * stride_c, mask=real, other=0)
    result = tl.gather(table, tl.reshape(byte.to(tl.int32), (BLOCK,)), 0)
    tl.store(out_ptr + image * (SIZE * SIZE * C) + value, tl.reshape(result, (BLOCK // V, V)), mask=real)


# ------------------------------------------------------------------ launcher
def _gather(
    tiles: Tensor, index: Tensor, top: Tensor, left: Tensor, flip: Tensor, size: int, low: float, high: float
) -> Tensor:
    out = _gather_fake(tiles, index, top, left, flip, size, low, high)
    if out.numel():
        # 16 values a thread share its part of the table, one entry of 256; V values are one store of 16 bytes.
        tiles, block, channels = _op.addressable(tiles), 4096, tiles.shape[3]
        with torch.cuda.device_of(tiles):
            gather_kernel[(len(index) * triton.cdiv(size * size * channels, block),)](
                tiles,
                index.contiguous(),
                top.contiguous(),
                left.contiguous(),
                flip.contiguous(),
                out,
                len(tiles),
                tiles.shape[1],
                *tiles.stride(),
                SIZE=size,
                C=channels,
                LOW=low,
                SPAN=high - low,
                V=4 if size * channels % 4 == 0 else 1,
                DENSE=tiles.stride()[2:] == (channels, 1),
                BLOCK=block,
                num_warps=8,
            )
    return out


def _gather_fake(
    tiles: Tensor, index: Tensor, top: Tensor, left: Tensor, flip: Tensor, size: int, low: float, high: float
) -> Tensor:
    return torch.empty(
        (index.shape[0], tiles.shape[3], size, size),
        dtype=torch.float32,
        device=tiles.device,
        memory_format=torch.channels_last,
    )


gather_op = _op.register(
    "gather_crop(Tensor tiles, Tensor index, Tensor top, Tensor left, Tensor flip, int size, float low, float high)"
    " -> Tensor",
    _gather,
    _gather_fake,
)


# ---------------------------------------------------------------- public API
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
        tiles: uint8 (N, T, T, C), bytes 0 to 255, any strides. Never copied.
        index: int64 (B,), which tile.
        top, left: int64 (B,), upper left corner of the crop, 0 <= corner <= T - size.
        flip: bool (B,), mirror the crop left to right.
        size: edge of the crops, in pixels.
        value_range: (low, high) that 0 and 255 map to: value = byte * (high - low) / 255 + low.
        impl: "auto", "eager" or "triton".

    Returns:
        float32 (B, C, size, size) with channels_last strides. A crop whose index, top or left is out of range is NaN:
        refusing it would make the host wait for the GPU.

    Raises:
        ValueError: a tensor has another shape or type, or size does not fit the tiles.
        IndexError: a crop is out of range, and the eager implementation runs on the CPU.

    Example:
        >>> tiles = torch.arange(0, 256, 15, dtype=torch.uint8)[:16].view(1, 4, 4, 1)
        >>> place = torch.tensor([1])
        >>> gather_crop(tiles, torch.tensor([0]), place, place, torch.tensor([True]), 2, value_range=(0, 255))
        tensor([[[[ 90.,  75.],
                  [150., 135.]]]])
    """
    if tiles.dtype != torch.uint8 or tiles.dim() != 4 or tiles.shape[1] != tiles.shape[2] or 0 in tiles.shape:
        raise ValueError(
            f"gather_crop: tiles must be uint8 (N, T, T, C), none of them 0, got {tiles.dtype} {tuple(tiles.shape)}"
        )
    for name, tensor, dtype in (
        ("index", index, torch.int64),
        ("top", top, torch.int64),
        ("left", left, torch.int64),
        ("flip", flip, torch.bool),
    ):
        if tensor.dtype != dtype or tensor.dim() != 1 or tensor.shape != index.shape:
            raise ValueError(
                f"gather_crop: {name} must be {dtype} (B,) with one entry a crop, got {tensor.dtype} "
                f"{tuple(tensor.shape)} for {tuple(index.shape)} indices"
            )
    if not 0 < size <= tiles.shape[1]:
        raise ValueError(f"gather_crop: size {size} does not fit tiles with an edge of {tiles.shape[1]}")
    low, high = map(float, value_range)
    if choose("gather_crop", impl, tiles, index, top, left, flip) == "eager":
        return gather_crop_eager(tiles, index, top, left, flip, size, (low, high))
    return gather_op(tiles, index, top, left, flip, size, low, high)

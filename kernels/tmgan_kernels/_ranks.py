"""Counting levels of 8 bits: histograms, their running sums, and from these the stable rank of every pixel.

Shared by `match_histogram` and `change_mask`. A plane is cut into chunks of raster order. One program histograms a
chunk, one a plane adds the histograms up, and one warp then walks a chunk and hands out ranks. The photo is read once,
and then as bytes; nothing is moved, as a sort would.

Estimate for 64 x 3 x 256 x 256 on an H200 (132 SMs, 1.75 GHz; not measured): a histogram is bound by its reads, 12 us
in float32 and 6 in bfloat16. Ranking takes 393 216 steps of 32 pixels, of 131 instructions each, and an SM issues four
a clock: 56 us. A step is a chain of about 600 clocks, of which 32 warps an SM would need only 32 us.
"""

import torch
from torch import Tensor

from tmgan_kernels import _op
from tmgan_kernels._stream import my_block
from tmgan_kernels._triton import jit, tl, triton

CHUNK = 2048  # pixels of a chunk: its table of 256 counts costs half a byte a pixel, and 64 steps of one warp


def scaling(value_range: tuple[float, float], rounded: bool = False) -> tuple[float, float]:
    """(offset, scale): (x - offset) * scale is x in 0-255 units, plus one half if rounded, for a floor to follow.

    A subtraction before a product cannot be contracted into one fused operation, so floors agree on every device.
    """
    low, high = value_range
    scale = 255.0 / (high - low)
    return low - 0.5 / scale if rounded else low, scale


# ------------------------------------------------------------------- kernels
@jit
def _count_kernel(
    x_ptr,
    keys_ptr,
    counts_ptr,
    count,
    stride_b,
    stride_c,
    stride_p,
    C: tl.constexpr,
    CHUNK: tl.constexpr,
    OFFSET: tl.constexpr,
    SCALE: tl.constexpr,
    KEYS: tl.constexpr,
    ACC: tl.constexpr,
):
    """Histogram of the levels of one chunk of pixels, for each channel; the levels themselves too (KEYS).

    One program takes all channels, so that interleaved ones (NHWC) come out of L1 after the first.
    """
    image, chunk = my_block(count, CHUNK)
    chunks = (count - 1) // CHUNK + 1
    pixel = chunk * CHUNK + tl.arange(0, CHUNK)
    inside = pixel < count
    x_ptr += image * stride_b
    for channel in range(C):
        plane = image * C + channel
        x = tl.load(x_ptr + channel * stride_c + pixel * stride_p, mask=inside, other=0.0).to(ACC)
        value = (x - OFFSET) * SCALE
        level = tl.where(value < 255, tl.where(value > 0, value, 0.0), 255.0).to(tl.int32)
        if KEYS:
            tl.store(keys_ptr + plane * count + pixel, level.to(tl.uint8), mask=inside)
        table = (plane * chunks + chunk) * 256
        tl.store(counts_ptr + table + tl.arange(0, 256), tl.histogram(level, 256, mask=inside))


@jit
def _cumulate_kernel(counts_ptr, total_ptr, chunks, ROWS: tl.constexpr, STARTS: tl.constexpr):
    """Over the chunks of one plane: the cumulated histogram; or (STARTS), in place, the rank at which each level of
    each chunk starts: all pixels of lower levels, and those of this level in earlier chunks."""
    plane = tl.program_id(0).to(tl.int64)
    level = tl.arange(0, 256)
    row = tl.arange(0, ROWS)[:, None]
    counts_ptr += plane * chunks * 256
    total = tl.zeros((256,), tl.int32)
    for first in range(0, chunks, ROWS):
        counts = tl.load(counts_ptr + (first + row) * 256 + level[None, :], mask=first + row < chunks, other=0)
        total += tl.sum(counts, 0)
    cumulated = tl.cumsum(total, 0)
    if STARTS:
        start = cumulated - total
        for first in range(0, chunks, ROWS):
            counts = tl.load(counts_ptr + (first + row) * 256 + level[None, :], mask=first + row < chunks, other=0)
            starts = start[None, :] + tl.cumsum(counts, 0) - counts
            tl.store(counts_ptr + (first + row) * 256 + level[None, :], starts, mask=first + row < chunks)
            start += tl.sum(counts, 0)
    else:
        tl.store(total_ptr + plane * 256 + level, cumulated)


@jit
def first_above(cumulated_ptr, value):
    """How many of 256 cumulated counts are <= value, where value is below the last of them: binary search.

    The counts, 1 KB a plane, stay in L1. A table of all ranks would take as many searches to fill as it saves.
    """
    found = tl.zeros_like(value)
    for step in tl.static_range(8):
        probe = tl.load(cumulated_ptr + found + ((128 >> step) - 1))
        found += tl.where(probe <= value, 128 >> step, 0)
    return found


@jit
def put_at_rank(
    out_ptr,
    lut_ptr,
    plane,
    pixel,
    rank,
    inside,
    count,
    stride_b,
    stride_c,
    stride_p,
    LOW: tl.constexpr,
    STEP: tl.constexpr,
    C: tl.constexpr,
    QUANTIZE: tl.constexpr,
    LEVELS: tl.constexpr,
    ACC: tl.constexpr,
):
    """Store what reference has at these ranks: a level, or its value (QUANTIZE: lut is the cumulated histogram); or
    the value itself (lut is the sorted plane)."""
    if QUANTIZE:
        value = first_above(lut_ptr + plane * 256, rank)
        if not LEVELS:
            value = value.to(ACC) * STEP + LOW
    else:
        value = tl.load(lut_ptr + plane * count + rank, mask=inside, other=0.0).to(ACC)
    out_ptr += plane // C * stride_b + plane % C * stride_c
    tl.store(out_ptr + pixel * stride_p, value.to(out_ptr.dtype.element_ty), mask=inside)


@jit
def _ones_in(bits):
    """Number of ones of an int32. LLVM knows the pattern: one instruction."""
    bits = bits.to(tl.uint32)
    bits = bits - ((bits >> 1) & 0x55555555)
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F
    return ((bits * 0x01010101) >> 24).to(tl.int32)


@jit
def _rank_kernel(
    keys_ptr,
    starts_ptr,
    lut_ptr,
    out_ptr,
    count,
    stride_b,
    stride_c,
    stride_p,
    LOW: tl.constexpr,
    STEP: tl.constexpr,
    C: tl.constexpr,
    CHUNK: tl.constexpr,
    QUANTIZE: tl.constexpr,
    LEVELS: tl.constexpr,
    ACC: tl.constexpr,
):
    """Stable ranks of one chunk of 8-bit keys, by one warp that walks it 32 pixels at a time.

    starts holds the next rank of every key. Eight ballots (sums of one bit a lane: one instruction each) tell a lane
    which of the 32 keys equal its own; its rank is the start plus the equal ones before it, and the last of them moves
    the start on. No atomics: the order is that of the raster.
    """
    plane, chunk = my_block(count, CHUNK)
    first = chunk * CHUNK
    lane = tl.arange(0, 32)
    own = tl.full((32,), 1, tl.int32) << lane
    later = ~(own | (own - 1))
    keys_ptr += plane * count
    starts_ptr += tl.program_id(0).to(tl.int64) * 256
    following = tl.load(keys_ptr + first + lane, mask=first + lane < count, other=0)
    for step in range(first, tl.minimum(first + CHUNK, count), 32):
        pixel = step + lane
        key = following.to(tl.int32)
        following = tl.load(keys_ptr + pixel + 32, mask=pixel + 32 < count, other=0)
        start = tl.load(starts_ptr + key)
        equal = tl.full((32,), -1, tl.int32)
        for bit in tl.static_range(8):
            mine = (key << (31 - bit)) >> 31  # all ones where the bit is set
            equal &= ~(tl.sum(mine & own, 0) ^ mine)
        rank = start + _ones_in(equal & (own - 1))
        tl.debug_barrier()  # all lanes have read the starts
        # Lanes outside the plane hold key 0 and come last of all, so they disturb no rank.
        tl.store(starts_ptr + key, rank + 1, mask=(equal & later) == 0)
        tl.debug_barrier()  # all lanes see the new ones
        put_at_rank(
            out_ptr,
            lut_ptr,
            plane,
            pixel,
            rank,
            pixel < count,
            count,
            stride_b,
            stride_c,
            stride_p,
            LOW,
            STEP,
            C,
            QUANTIZE,
            LEVELS,
            ACC,
        )


# ----------------------------------------------------------------- launchers
def pixel_strides(x: Tensor) -> tuple[int, int, int]:
    """Strides of image, channel and pixel of a dense tensor."""
    return x.stride(0), x.stride(1), x.shape[1] if _op.is_nhwc(x) else 1


def counted(
    x: Tensor, value_range: tuple[float, float], rounded: bool, keys: bool = False
) -> tuple[Tensor | None, Tensor]:
    """The levels of x as bytes, planes in order (None without keys), and their histograms (planes, chunks, 256)."""
    x = _op.dense(x)
    batch, channels, height, width = x.shape
    chunks = triton.cdiv(height * width, CHUNK)
    levels = x.new_empty((batch, channels, height, width), dtype=torch.uint8) if keys else None
    counts = x.new_empty((batch * channels, chunks, 256), dtype=torch.int32)
    offset, scale = scaling(value_range, rounded)
    _count_kernel[(batch * chunks,)](
        x,
        levels,
        counts,
        height * width,
        *pixel_strides(x),
        C=channels,
        CHUNK=CHUNK,
        OFFSET=offset,
        SCALE=scale,
        KEYS=keys,
        ACC=_op.accumulator(x),
        num_warps=4,
    )
    return levels, counts


def cumulated(counts: Tensor) -> Tensor:
    """Cumulated histograms of whole planes, (planes, 256)."""
    planes, chunks, _ = counts.shape
    total = counts.new_empty((planes, 256))
    _cumulate_kernel[(planes,)](counts, total, chunks, ROWS=16, STARTS=False, num_warps=8)
    return total


def launch_ranks(levels: Tensor, counts: Tensor, lut: Tensor, out: Tensor, units: dict) -> None:
    """Into out what lut has at the rank of every pixel. counts are those of levels, and used up.

    units: the constants of `put_at_rank` that say what lut holds and what out wants.
    """
    planes, chunks, _ = counts.shape
    channels, count = levels.shape[1], levels.shape[2] * levels.shape[3]
    _cumulate_kernel[(planes,)](counts, None, chunks, ROWS=16, STARTS=True, num_warps=8)
    _rank_kernel[(planes * chunks,)](
        levels, counts, lut, out, count, *pixel_strides(out), **units, C=channels, CHUNK=CHUNK, num_warps=1
    )

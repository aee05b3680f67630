"""The sharp regions of an image: its sharpness map split into sharp and blurred pixels by 2-means, per image.

    t_0 = mean of the image's values
    t_k = (mean of the values > t_(k-1) + mean of the values <= t_(k-1)) / 2,     k = 1 .. steps
    mask = value > t_steps

Where one of the clusters is empty the threshold stays as it is (the published code divides 0 by 0 there). Five steps
are the published number; they need not have converged.

Traffic for values of e bytes: (steps + 2) e read and 1 written a pixel, in steps + 2 launches; after the first read the
values come from L2, as long as the batch fits there (64 planes of 256 x 256 in float32 are 17 MB). Nothing is saved:
not differentiable. Sums are float32 inside a program and float64 across programs, in a fixed order; counts are exact.
Whether a value within rounding of the threshold is above it depends on the order of summation.
Source: the paper's naive sharpness loss (its `sharpness_loss`).
"""

import torch
from torch import Tensor

from tmgan_kernels import _native, _op
from tmgan_kernels._dispatch import check_image, choose
from tmgan_kernels._triton import jit, tl, triton


# ---------------------------------------------------------------- definition
def two_means_eager(values: Tensor, steps: int) -> Tensor:
    """The thresholds (B,) of values (B, ...) in plain PyTorch, in the dtype of the values."""
    flat = values.flatten(1)
    threshold = flat.mean(1)
    for _ in range(steps):
        above = flat > threshold[:, None]
        number = above.sum(1)
        rest = flat.shape[1] - number
        middle = (flat.where(above, 0).sum(1) / number + flat.where(~above, 0).sum(1) / rest) / 2
        threshold = middle.where((number > 0) & (rest > 0), threshold)
    return threshold


def sharp_regions_eager(sharpness: Tensor, steps: int = 5) -> tuple[Tensor, Tensor]:
    """The definition of `sharp_regions` in plain PyTorch."""
    values = sharpness.detach().to(_op.wide(sharpness))
    threshold = two_means_eager(values, steps)
    return values > threshold[:, None, None, None], threshold


# ------------------------------------------------------------------- kernels
@jit
def threshold_of(table_ptr, image, chunks, pixels, MEAN: tl.constexpr, TABLE: tl.constexpr, TURNS: tl.constexpr,
                 ACC: tl.constexpr):
    """The threshold of one image that follows from the table of the launch before it.

    The table is (B, 4, chunks): sum above, number above, sum below, and the threshold that these were taken at. If MEAN
    it is (B, chunks), sums of all values. Every program adds it up anew, in the same order, TABLE columns in each of
    TURNS turns: cheaper than a launch of its own.
    """
    i = tl.arange(0, TABLE)
    above = tl.zeros((TABLE,), tl.float64)
    below = tl.zeros((TABLE,), tl.float64)
    number = tl.zeros((TABLE,), tl.float64)
    if MEAN:
        table_ptr += image * chunks
        for turn in range(TURNS):
            j = turn * TABLE + i
            above += tl.load(table_ptr + j, mask=j < chunks, other=0.0).to(tl.float64)
        threshold = tl.sum(above, 0) / pixels
    else:
        table_ptr += image * 4 * chunks
        before = tl.load(table_ptr + 3 * chunks).to(tl.float64)
        for turn in range(TURNS):
            j = turn * TABLE + i
            inside = j < chunks
            above += tl.load(table_ptr + j, mask=inside, other=0.0).to(tl.float64)
            number += tl.load(table_ptr + chunks + j, mask=inside, other=0.0).to(tl.float64)
            below += tl.load(table_ptr + 2 * chunks + j, mask=inside, other=0.0).to(tl.float64)
        sharp = tl.sum(number, 0)
        rest = pixels - sharp
        middle = (tl.sum(above, 0) / tl.maximum(sharp, 1.0) + tl.sum(below, 0) / tl.maximum(rest, 1.0)) / 2
        threshold = tl.where((sharp > 0) & (rest > 0), middle, before)
    return threshold.to(ACC)


@jit
def load_chunk(x_ptr, image, chunk, pixels, ABSOLUTE: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """BLOCK values of one image of a (B, 1, H, W) plane, their indices in the image, and which of them exist."""
    i = chunk * BLOCK + tl.arange(0, BLOCK)
    inside = i < pixels
    value = tl.load(x_ptr + image * pixels + i, mask=inside, other=0.0).to(ACC)
    if ABSOLUTE:
        value = tl.abs(value)
    return value, i, inside


@jit
def sum_kernel(x_ptr, out_ptr, pixels, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """The sum of every chunk: out is (B, chunks)."""
    image = tl.program_id(0).to(tl.int64)
    value, i, inside = load_chunk(x_ptr, image, tl.program_id(1), pixels, False, BLOCK, ACC)
    tl.store(out_ptr + image * tl.num_programs(1) + tl.program_id(1), tl.sum(value, 0))


@jit
def sweep_kernel(x_ptr, before_ptr, table_ptr, before_chunks, pixels, MEAN: tl.constexpr, ABSOLUTE: tl.constexpr,
                 TABLE: tl.constexpr, TURNS: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """One step: the threshold from the table before, then this chunk's column of the next table."""
    image = tl.program_id(0).to(tl.int64)
    # Loaded first, to travel while the threshold is computed.
    value, i, inside = load_chunk(x_ptr, image, tl.program_id(1), pixels, ABSOLUTE, BLOCK, ACC)
    threshold = threshold_of(before_ptr, image, before_chunks, pixels, MEAN, TABLE, TURNS, ACC)
    above = value > threshold
    chunks = tl.num_programs(1)
    table_ptr += image * 4 * chunks + tl.program_id(1)
    # The values outside the image are 0, so they count in no sum; they may count as above a negative threshold.
    tl.store(table_ptr, tl.sum(tl.where(above, value, 0.0), 0))
    tl.store(table_ptr + chunks, tl.sum((above & inside).to(tl.int32), 0).to(ACC))
    tl.store(table_ptr + 2 * chunks, tl.sum(tl.where(above, 0.0, value), 0))
    tl.store(table_ptr + 3 * chunks, threshold)


@jit
def threshold_kernel(table_ptr, threshold_ptr, chunks, pixels, MEAN: tl.constexpr, TABLE: tl.constexpr,
                     TURNS: tl.constexpr, ACC: tl.constexpr):
    """The last threshold of every image, for who does not call `threshold_of` in a kernel of their own."""
    image = tl.program_id(0).to(tl.int64)
    tl.store(threshold_ptr + image, threshold_of(table_ptr, image, chunks, pixels, MEAN, TABLE, TURNS, ACC))


@jit
def mask_kernel(x_ptr, table_ptr, mask_ptr, threshold_ptr, table_chunks, pixels, MEAN: tl.constexpr,
                TABLE: tl.constexpr, TURNS: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """The last threshold, and which values lie above it."""
    image = tl.program_id(0).to(tl.int64)
    value, i, inside = load_chunk(x_ptr, image, tl.program_id(1), pixels, False, BLOCK, ACC)
    threshold = threshold_of(table_ptr, image, table_chunks, pixels, MEAN, TABLE, TURNS, ACC)
    tl.store(mask_ptr + image * pixels + i, value > threshold, mask=inside)
    if tl.program_id(1) == 0:
        tl.store(threshold_ptr + image, threshold)


# ----------------------------------------------------------------- launchers
def chunking(pixels: int) -> tuple[int, int]:
    """Values a program holds, and programs an image.

    8192 values are 64 a thread of 4 warps, 16 loads of 16 bytes in flight. 64 images of 256 x 256 are 512 programs,
    four a multiprocessor of an H100 (at most 128 registers a thread): one wave, as there should be where every launch
    waits for the one before. Only beyond 2^28 pixels do programs grow, since a grid's second axis ends at 65535.
    """
    block = max(8192, triton.next_power_of_2(triton.cdiv(pixels, 2**15)))
    block = min(block, max(128, triton.next_power_of_2(pixels)))
    return block, triton.cdiv(pixels, block)


def table_options(table: Tensor) -> dict[str, int]:
    """TABLE and TURNS of `threshold_of`. One turn but for large images, and then the compiler removes the loop."""
    block = min(256, triton.next_power_of_2(table.shape[-1]))
    return {"TABLE": block, "TURNS": triton.cdiv(table.shape[-1], block)}


def launch_sweeps(plane: Tensor, first: Tensor, steps: int, absolute: bool) -> Tensor:
    """Run `sweep_kernel` steps times; returns the table for `threshold_of`, which is first itself (MEAN) for no steps.

    plane is a contiguous (B, 1, H, W), of which absolute values are taken if absolute; first is (B, P), P >= 1 partial
    sums of those values in the dtype `_op.wide(plane)`.
    """
    batch, pixels = plane.shape[0], plane[0].numel()
    block, chunks = chunking(pixels)
    table = first
    for _ in range(steps):
        before, table = table, first.new_empty((batch, 4, chunks))
        with torch.cuda.device_of(plane):
            sweep_kernel[(batch, chunks)](
                plane, before, table, before.shape[-1], pixels, MEAN=before is first, ABSOLUTE=absolute,
                **table_options(before), BLOCK=block, ACC=_op.accumulator(plane), num_warps=4)
    return table


def two_means(plane: Tensor, first: Tensor, steps: int) -> Tensor:
    """The thresholds (B,) of |plane|, in the dtype `_op.wide(plane)`; the arguments are those of `launch_sweeps`."""
    threshold = first.new_empty(plane.shape[0])
    if plane.numel():
        table = launch_sweeps(plane, first, steps, absolute=True)
        with torch.cuda.device_of(plane):
            threshold_kernel[(plane.shape[0],)](table, threshold, table.shape[-1], plane[0].numel(), MEAN=steps == 0,
                                                **table_options(table), ACC=_op.accumulator(plane), num_warps=1)
    return threshold


def _forward(sharpness: Tensor, steps: int, cuda: bool) -> tuple[Tensor, Tensor]:
    mask, threshold = _forward_fake(sharpness, steps, cuda)
    if not mask.numel():
        return mask, threshold
    plane = sharpness.contiguous()
    if cuda:
        dtype, device, stream = _native.place(plane)
        _native.call("tmgan_sharp_regions", plane.data_ptr(), mask.data_ptr(), threshold.data_ptr(), steps,
                     plane.shape[0], *plane.shape[2:], dtype, device, _native.capability(plane.device), stream)
        return mask, threshold
    batch, pixels = plane.shape[0], plane[0].numel()
    block, chunks = chunking(pixels)
    accumulator = _op.accumulator(plane)
    first = threshold.new_empty((batch, chunks))
    with torch.cuda.device_of(plane):
        sum_kernel[(batch, chunks)](plane, first, pixels, BLOCK=block, ACC=accumulator, num_warps=4)
        table = launch_sweeps(plane, first, steps, absolute=False)
        mask_kernel[(batch, chunks)](plane, table, mask, threshold, table.shape[-1], pixels, MEAN=steps == 0,
                                     **table_options(table), BLOCK=block, ACC=accumulator, num_warps=4)
    return mask, threshold


def _forward_fake(sharpness: Tensor, steps: int, cuda: bool) -> tuple[Tensor, Tensor]:
    mask = sharpness.new_empty(sharpness.shape, dtype=torch.bool)
    return mask, sharpness.new_empty(sharpness.shape[0], dtype=_op.wide(sharpness))


forward_op = _op.register("sharp_regions(Tensor sharpness, int steps, bool cuda) -> (Tensor, Tensor)", _forward,
                          _forward_fake)


# ---------------------------------------------------------------- public API
def sharp_regions(sharpness: Tensor, steps: int = 5, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """Split every image's sharpness map into sharp and blurred pixels, by 2-means from the mean.

    Args:
        sharpness: floating (B, 1, H, W), such as the result of `laplace_sharpness`; any units.
        steps: how often the threshold is moved to the middle of the means of the two sides; 0 is the mean itself.
        impl: "auto", "eager", "triton" or "cuda".

    Returns:
        mask: bool (B, 1, H, W), True where sharpness > threshold.
        threshold: (B,) float32 (float64 for float64), in the units of sharpness.
        Neither has a gradient. A map with one value only (a constant image) keeps that value as its threshold; a map
        with a NaN has a NaN threshold and no sharp pixel.

    Raises:
        ValueError: sharpness is not a floating (B, 1, H, W) tensor, or steps is not an int >= 0.

    Example:
        >>> mask, threshold = sharp_regions(torch.tensor([[[[0.0, 1.0, 2.0, 9.0]]]]))
        >>> mask[0, 0], threshold
        (tensor([[False, False, False,  True]]), tensor([5.]))
    """
    check_image("sharp_regions", "sharpness", sharpness)
    if sharpness.shape[1] != 1:
        raise ValueError(f"sharp_regions: sharpness must have one channel, got {tuple(sharpness.shape)}; pass an image "
                         "through laplace_sharpness first")
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"sharp_regions: steps must be an int >= 0, got {steps!r}")
    chosen = choose("sharp_regions", impl, sharpness)
    if chosen == "eager":
        return sharp_regions_eager(sharpness, steps)
    return forward_op(sharpness.detach(), steps, chosen == "cuda")

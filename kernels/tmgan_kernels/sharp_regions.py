"""The sharp regions of an image: its sharpness map split into sharp and blurred pixels by 2-means, per image.

    t_0 = mean of the image's values
    t_k = (mean of the values > t_(k-1) + mean of the values <= t_(k-1)) / 2,     k = 1 .. steps
    mask = value > t_steps

Where one of the clusters is empty the threshold stays as it is (the published code divides 0 by 0 there). Five steps
are the published number; they need not have converged.

Traffic for values of e bytes: (steps + 2) e read and 1 written a pixel; after the first read the values come from L2,
as long as the batch fits there (64 planes of 256 x 256 in float32 are 17 MB). An image of up to 256 x 256 is one
program's, a larger one is cut in chunks that go through steps + 2 launches: see `ALONE`. Nothing is saved: not
differentiable. Sums are float32 inside a program and float64 across programs, in a fixed order; counts are exact.
Whether a value within rounding of the threshold is above it depends on the order of summation.
Source: the paper's naive sharpness loss (its `sharpness_loss`).
"""

import torch
from torch import Tensor

from tmgan_kernels import _native, _op
from tmgan_kernels._dispatch import check_image, choose
from tmgan_kernels._triton import jit, tl, triton

# Pixels of an image that one program takes through all steps, in one launch. A prediction for an H100, not measured: a
# multiprocessor reads some 80 GB/s from L2, 256 KB in 3.3 us, so seven passes over 256 x 256 take about 23 us for any
# batch of up to 132. A launch for each of these passes waits for the one before: 3 us plus the batch's bytes at 5.5
# TB/s, about 35 us at batch 40 and 42 at 64, and seven launches by the host where no CUDA graph replays them. For 512 x
# 512 one program would take 92 us; launches take 26 at batch 4.
ALONE = 2**16


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
def _middle(above, number, below, pixels, before):
    """The next threshold from the sums of both sides, in float64; before, where one side is empty."""
    rest = pixels - number
    middle = (above / tl.maximum(number, 1.0) + below / tl.maximum(rest, 1.0)) / 2
    return tl.where((number > 0) & (rest > 0), middle, before)


@jit
def threshold_of(
    table_ptr, image, chunks, pixels, MEAN: tl.constexpr, TABLE: tl.constexpr, TURNS: tl.constexpr, ACC: tl.constexpr
):
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
        threshold = _middle(tl.sum(above, 0), tl.sum(number, 0), tl.sum(below, 0), pixels, before)
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
def image_kernel(
    x_ptr,
    first_ptr,
    mask_ptr,
    threshold_ptr,
    parts,
    pixels,
    turns,
    STEPS: tl.constexpr,
    FIRST: tl.constexpr,
    MASK: tl.constexpr,
    ABSOLUTE: tl.constexpr,
    TABLE: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    """Everything for one image, BLOCK values in each of `turns`: its mean (from partial sums if FIRST), STEPS steps,
    its threshold, and what lies above it (if MASK).

    The values of a turn are loaded while those of the turn before are counted. Every sweep runs against the one before:
    what that read last is still in L1.
    """
    image = tl.program_id(0).to(tl.int64)
    last = turns - 1
    if FIRST:
        total = tl.zeros((TABLE,), tl.float64)
        for start in range(0, parts, TABLE):
            j = start + tl.arange(0, TABLE)
            total += tl.load(first_ptr + image * parts + j, mask=j < parts, other=0.0).to(tl.float64)
        mean = tl.sum(total, 0) / pixels
    else:
        sums = tl.zeros((BLOCK,), ACC)
        for turn in range(turns):
            value, i, inside = load_chunk(x_ptr, image, last - turn, pixels, ABSOLUTE, BLOCK, ACC)
            sums += value
        mean = tl.sum(sums, 0).to(tl.float64) / pixels
    threshold = mean.to(ACC)
    for step in range(STEPS):
        back = step % 2 == 1
        following, i, inside = load_chunk(x_ptr, image, tl.where(back, last, 0), pixels, ABSOLUTE, BLOCK, ACC)
        sums_above = tl.zeros((BLOCK,), ACC)
        sums_below = tl.zeros((BLOCK,), ACC)
        numbers = tl.zeros((BLOCK,), tl.int32)
        for turn in range(turns):
            value = following
            real = inside
            after = tl.minimum(turn + 1, last)
            following, i, inside = load_chunk(
                x_ptr, image, tl.where(back, last - after, after), pixels, ABSOLUTE, BLOCK, ACC
            )
            above = value > threshold
            # The values outside the image are 0, so they count in no sum; they may count as above a negative threshold.
            sums_above += tl.where(above, value, 0.0)
            sums_below += tl.where(above, 0.0, value)
            numbers += (above & real).to(tl.int32)
        threshold = _middle(
            tl.sum(sums_above, 0).to(tl.float64),
            tl.sum(numbers, 0).to(tl.float64),
            tl.sum(sums_below, 0).to(tl.float64),
            pixels,
            threshold.to(tl.float64),
        ).to(ACC)
    tl.store(threshold_ptr + image, threshold)
    if MASK:
        for turn in range(turns):
            value, i, inside = load_chunk(
                x_ptr, image, last - turn if STEPS % 2 == 1 else turn, pixels, ABSOLUTE, BLOCK, ACC
            )
            tl.store(mask_ptr + image * pixels + i, value > threshold, mask=inside)


@jit
def sum_kernel(x_ptr, out_ptr, pixels, ABSOLUTE: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr):
    """The sum of every chunk: out is (B, chunks)."""
    image = tl.program_id(0).to(tl.int64)
    value, i, inside = load_chunk(x_ptr, image, tl.program_id(1), pixels, ABSOLUTE, BLOCK, ACC)
    tl.store(out_ptr + image * tl.num_programs(1) + tl.program_id(1), tl.sum(value, 0))


@jit
def sweep_kernel(
    x_ptr,
    before_ptr,
    table_ptr,
    before_chunks,
    pixels,
    MEAN: tl.constexpr,
    ABSOLUTE: tl.constexpr,
    TABLE: tl.constexpr,
    TURNS: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
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
def threshold_kernel(
    table_ptr,
    threshold_ptr,
    chunks,
    pixels,
    MEAN: tl.constexpr,
    TABLE: tl.constexpr,
    TURNS: tl.constexpr,
    ACC: tl.constexpr,
):
    """The last threshold of every image."""
    image = tl.program_id(0).to(tl.int64)
    tl.store(threshold_ptr + image, threshold_of(table_ptr, image, chunks, pixels, MEAN, TABLE, TURNS, ACC))


@jit
def mask_kernel(
    x_ptr,
    table_ptr,
    mask_ptr,
    threshold_ptr,
    table_chunks,
    pixels,
    MEAN: tl.constexpr,
    ABSOLUTE: tl.constexpr,
    TABLE: tl.constexpr,
    TURNS: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    """The last threshold, and which values lie above it."""
    image = tl.program_id(0).to(tl.int64)
    value, i, inside = load_chunk(x_ptr, image, tl.program_id(1), pixels, ABSOLUTE, BLOCK, ACC)
    threshold = threshold_of(table_ptr, image, table_chunks, pixels, MEAN, TABLE, TURNS, ACC)
    tl.store(mask_ptr + image * pixels + i, value > threshold, mask=inside)
    if tl.program_id(1) == 0:
        tl.store(threshold_ptr + image, threshold)


# ----------------------------------------------------------------- launchers
def chunking(pixels: int) -> tuple[int, int]:
    """Values a program holds, and programs an image, of the launches for images larger than `ALONE`.

    4096 values are 32 a thread of 4 warps, 8 loads of 16 bytes in flight, and at most 96 registers: 5 programs, 80 KB
    in flight, fit a multiprocessor. Twice as many values took 167 registers and 3 programs. Only beyond 2^27 pixels do
    programs grow, since a grid's second axis ends at 65535.
    """
    block = max(4096, triton.next_power_of_2(triton.cdiv(pixels, 2**15)))
    block = min(block, max(128, triton.next_power_of_2(pixels)))
    return block, triton.cdiv(pixels, block)


def table_options(table: Tensor) -> dict[str, int]:
    """TABLE and TURNS of `threshold_of`. One turn but for large images, and then the compiler removes the loop."""
    block = min(256, triton.next_power_of_2(table.shape[-1]))
    return {"TABLE": block, "TURNS": triton.cdiv(table.shape[-1], block)}


def _launch_image(
    plane: Tensor, first: Tensor | None, steps: int, absolute: bool, mask: Tensor | None, threshold: Tensor
) -> None:
    """`two_means` by a program an image. 8 values a thread: 32 warps at no more than 64 registers."""
    batch, pixels = plane.shape[0], plane[0].numel()
    block = min(8192, max(128, triton.next_power_of_2(pixels)))
    parts = 0 if first is None else first.shape[1]
    image_kernel[(batch,)](
        plane,
        first,
        mask,
        threshold,
        parts,
        pixels,
        triton.cdiv(pixels, block),
        STEPS=steps,
        FIRST=first is not None,
        MASK=mask is not None,
        ABSOLUTE=absolute,
        TABLE=min(256, triton.next_power_of_2(max(parts, 1))),
        BLOCK=block,
        ACC=_op.accumulator(plane),
        num_warps=max(1, block // 256),
    )


def _launch_chunks(
    plane: Tensor, first: Tensor | None, steps: int, absolute: bool, mask: Tensor | None, threshold: Tensor
) -> None:
    """`two_means` by a launch for the mean, each step, and the mask."""
    batch, pixels = plane.shape[0], plane[0].numel()
    block, chunks = chunking(pixels)
    shared = {"BLOCK": block, "ACC": _op.accumulator(plane), "num_warps": 4}
    if first is None:
        first = threshold.new_empty((batch, chunks))
        sum_kernel[(batch, chunks)](plane, first, pixels, ABSOLUTE=absolute, **shared)
    table = first
    for _ in range(steps):
        before, table = table, threshold.new_empty((batch, 4, chunks))
        sweep_kernel[(batch, chunks)](
            plane,
            before,
            table,
            before.shape[-1],
            pixels,
            MEAN=before is first,
            ABSOLUTE=absolute,
            **table_options(before),
            **shared,
        )
    last = {"MEAN": steps == 0, **table_options(table)}
    if mask is not None:
        mask_kernel[(batch, chunks)](
            plane, table, mask, threshold, table.shape[-1], pixels, ABSOLUTE=absolute, **last, **shared
        )
    else:
        threshold_kernel[(batch,)](table, threshold, table.shape[-1], pixels, **last, ACC=shared["ACC"], num_warps=1)


def two_means(
    plane: Tensor, first: Tensor | None, steps: int, absolute: bool = True, mask: Tensor | None = None
) -> Tensor:
    """The thresholds (B,) of |plane|, or of plane, in the dtype `_op.wide(plane)`; what lies above them into mask.

    plane is a contiguous (B, 1, H, W), of which absolute values are taken if absolute; first, if at hand, is (B, P),
    P >= 1 partial sums of those values in the dtype `_op.wide(plane)`.
    """
    threshold = plane.new_empty(plane.shape[0], dtype=_op.wide(plane))
    if plane.numel():
        launch = _launch_image if plane[0].numel() <= ALONE else _launch_chunks
        with torch.cuda.device_of(plane):
            launch(plane, first, steps, absolute, mask, threshold)
    return threshold


def _forward(sharpness: Tensor, steps: int, cuda: bool) -> tuple[Tensor, Tensor]:
    plane = sharpness.contiguous()
    if not cuda:
        mask = _forward_fake(sharpness, steps, cuda)[0]
        return mask, two_means(plane, None, steps, absolute=False, mask=mask)
    mask, threshold = _forward_fake(sharpness, steps, cuda)
    if mask.numel():
        dtype, device, stream = _native.place(plane)
        _native.call(
            "tmgan_sharp_regions",
            plane.data_ptr(),
            mask.data_ptr(),
            threshold.data_ptr(),
            steps,
            plane.shape[0],
            *plane.shape[2:],
            dtype,
            device,
            _native.capability(plane.device),
            stream,
        )
    return mask, threshold


def _forward_fake(sharpness: Tensor, steps: int, cuda: bool) -> tuple[Tensor, Tensor]:
    mask = sharpness.new_empty(sharpness.shape, dtype=torch.bool)
    return mask, sharpness.new_empty(sharpness.shape[0], dtype=_op.wide(sharpness))


forward_op = _op.register(
    "sharp_regions(Tensor sharpness, int steps, bool cuda) -> (Tensor, Tensor)", _forward, _forward_fake
)


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
        raise ValueError(
            f"sharp_regions: sharpness must have one channel, got {tuple(sharpness.shape)}; pass an image "
            "through laplace_sharpness first"
        )
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"sharp_regions: steps must be an int >= 0, got {steps!r}")
    chosen = choose("sharp_regions", impl, sharpness)
    if chosen == "eager":
        return sharp_regions_eager(sharpness, steps)
    return forward_op(sharpness.detach(), steps, chosen == "cuda")

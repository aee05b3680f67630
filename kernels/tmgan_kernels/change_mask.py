"""Where an edit left a photo as it was: the keep-mask of the paper's histogram method.

    a, b = original matched to generated, generated; both in 0-255 units    (see match_histogram)
    d = |G(a) - G(b)|,   G: Gaussian 5x5 of sigma 1, borders mirrored (the outermost pixel is not repeated)
    changed = threshold < d (<= ceiling), in any channel
    keep = not dilate7x7(erode2x2(changed)),   outside the image ignored; erosion sees rows y-1..y, columns x-1..x

How: G is linear, so the kernel blurs a - b once, and packs `changed` as one bit a pixel, 16 rows to a word; erosion and
dilation are shifts of words. Equal to the definition except where d is within rounding of the threshold or the ceiling.

Traffic for three channels of e bytes, with eight_bit and quantize, where what is one byte a value or less stays in L2:
original is read once and generated twice, 9e bytes a pixel, and 1 written. Not differentiable: a constant for autograd.
Source: the paper's HM mask, `hist_batch_mask` of its code.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan_kernels import _native, _op
from tmgan_kernels._ranks import pixel_strides, scaling
from tmgan_kernels._triton import jit, tl, triton
from tmgan_kernels.match_histogram import check_match, choose_match, launch_match, launch_match_cuda, match_255_eager

_TAPS = tuple(math.exp(-k * k / 2) / (1 + 2 * math.exp(-0.5) + 2 * math.exp(-2)) for k in range(3))


# ---------------------------------------------------------------- definition
def gaussian_eager(x: Tensor) -> Tensor:
    """Gaussian 5x5 of sigma 1, for any size: indices are mirrored at both borders (scipy's mode "mirror")."""
    for dim in (2, 3):
        last = x.shape[dim] - 1
        place = (last - (last - torch.arange(-2, last + 3, device=x.device).abs()).abs()).abs().clamp(max=last)
        padded = x.index_select(dim, place)
        blurred = sum(_TAPS[abs(k)] * padded.narrow(dim, k + 2, last + 1) for k in range(-2, 3))
        assert isinstance(blurred, Tensor)
        x = blurred
    return x


def erode_eager(mask: Tensor) -> Tensor:
    """2x2 erosion of a boolean (B, C, H, W): rows y-1..y, columns x-1..x; outside the image ignored."""
    padded = F.pad(mask, (1, 0, 1, 0), value=True)
    return padded[..., 1:, 1:] & padded[..., :-1, 1:] & padded[..., 1:, :-1] & padded[..., :-1, :-1]


def dilate_eager(mask: Tensor) -> Tensor:
    """7x7 dilation of a boolean (B, C, H, W); outside the image ignored."""
    return F.max_pool2d(mask.float(), 7, stride=1, padding=3) > 0


def difference_eager(
    original: Tensor,
    generated: Tensor,
    value_range: tuple[float, float] = (-1.0, 1.0),
    ties: str = "rank",
    quantize: bool = True,
    eight_bit: bool = False,
) -> Tensor:
    """d, (B, C, H, W), float32 or float64."""
    matched = match_255_eager(original, generated, value_range, ties, quantize, eight_bit)
    offset, scale = scaling(value_range)
    return (gaussian_eager(matched) - gaussian_eager((generated.to(matched.dtype) - offset) * scale)).abs()


def change_mask_eager(
    original: Tensor,
    generated: Tensor,
    value_range: tuple[float, float] = (-1.0, 1.0),
    threshold: float = 32.5,
    ceiling: float | None = None,
    ties: str = "rank",
    quantize: bool = True,
    eight_bit: bool = False,
) -> Tensor:
    """The definition of `change_mask` in plain PyTorch."""
    difference = difference_eager(original, generated, value_range, ties, quantize, eight_bit)
    changed = difference > threshold
    if ceiling is not None:
        changed = changed & (difference <= ceiling)
    return ~dilate_eager(erode_eager(changed.any(dim=1, keepdim=True)))


# ------------------------------------------------------------------- kernels
@jit
def _changed_kernel(
    matched_ptr,
    x_ptr,
    words_ptr,
    H,
    W,
    stride_b,
    stride_c,
    stride_p,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    LEVELS: tl.constexpr,
    OFFSET: tl.constexpr,
    SCALE: tl.constexpr,
    THRESHOLD: tl.constexpr,
    CEILING: tl.constexpr,
    TAP0: tl.constexpr,
    TAP1: tl.constexpr,
    TAP2: tl.constexpr,
    ACC: tl.constexpr,
):
    """`changed` of a strip of ROWS rows and 28 columns, a word of ROWS bits a column. words is (B, strips, W).

    One warp marches down 32 columns, two of them halo on either side, with five rows in registers: columns are blurred
    in registers, rows by four shuffles. A value is loaded at its mirrored place, so that borders cost nothing.
    matched, planes in order, holds levels (LEVELS), or values in the units of x.
    """
    image = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * ROWS
    lane = tl.arange(0, 32)
    column = tl.program_id(2) * 28 + lane - 2
    # At most two outside, a place is mirrored; farther ones, which nobody keeps, go anywhere inside.
    place = tl.minimum(tl.abs(W - 1 - tl.abs(W - 1 - tl.abs(column))), W - 1)
    left, left2 = tl.maximum(lane - 1, 0), tl.maximum(lane - 2, 0)
    right, right2 = tl.minimum(lane + 1, 31), tl.minimum(lane + 2, 31)
    x_ptr += image * stride_b
    matched_ptr += image * (C * H * W)
    word = tl.zeros((32,), tl.int32)
    for channel in range(C):
        x_plane = x_ptr + channel * stride_c
        matched_plane = matched_ptr + channel * (H * W)
        # Rows y-2..y+1 of a - b; the first four steps only fill them.
        row0 = tl.zeros((32,), ACC)
        row1 = row0
        row2 = row0
        row3 = row0
        for step in tl.static_range(ROWS + 4):
            row = tl.abs(H - 1 - tl.abs(H - 1 - tl.abs(first + (step - 2))))
            pixel = tl.minimum(row, H - 1) * W + place
            row4 = tl.load(matched_plane + pixel).to(ACC)
            x = tl.load(x_plane + pixel * stride_p).to(ACC)
            if LEVELS:
                row4 -= (x - OFFSET) * SCALE
            else:
                row4 = (row4 - x) * SCALE
            if step >= 4:
                middle = TAP0 * row2 + TAP1 * (row1 + row3) + TAP2 * (row0 + row4)
                near = tl.gather(middle, left, 0) + tl.gather(middle, right, 0)
                far = tl.gather(middle, left2, 0) + tl.gather(middle, right2, 0)
                difference = tl.abs(TAP0 * middle + TAP1 * near + TAP2 * far)
                changed = difference > THRESHOLD
                if CEILING is not None:
                    changed = changed & (difference <= CEILING)
                word |= tl.where(changed, 1 << (step - 4), 0)
            row0 = row1
            row1 = row2
            row2 = row3
            row3 = row4
    word &= (1 << tl.minimum(H - first, ROWS)) - 1  # rows below the image: unchanged
    words_ptr += (image * tl.num_programs(1) + tl.program_id(1)) * W
    tl.store(words_ptr + column, word, mask=(lane >= 2) & (lane < 30) & (column < W))


@jit
def _eroded(words_ptr, column, W, ROWS: tl.constexpr):
    """Vertically eroded words of one column of a strip: bit r is row r - 4 of the strip, from row -3 to ROWS + 2."""
    strip = tl.program_id(1) + tl.zeros_like(column)
    inside = (column >= 0) & (column < W)
    middle = tl.load(words_ptr + column, mask=inside, other=0)
    # Above the image all is set, which erosion ignores, and is removed before dilation can see it.
    above = tl.load(words_ptr + column - W, mask=inside & (strip > 0), other=-1)
    below = tl.load(words_ptr + column + W, mask=inside & (strip + 1 < tl.num_programs(1)), other=0)
    word = ((above >> (ROWS - 4)) & 15) | (middle << 4) | ((below & 7) << (ROWS + 4))
    return tl.where(inside, word & (word << 1) & tl.where(strip > 0, -1, -16), 0)


@jit
def _keep_kernel(words_ptr, keep_ptr, H, W, BW: tl.constexpr, ROWS: tl.constexpr):
    """Erosion, dilation and negation of a strip of ROWS rows and BW columns: words to one byte a pixel."""
    image = tl.program_id(0).to(tl.int64)
    column = tl.program_id(2) * BW + tl.arange(0, BW)
    words_ptr += (image * tl.num_programs(1) + tl.program_id(1)) * W
    keep_ptr += image * (H * W)
    before = _eroded(words_ptr, column - 4, W, ROWS)
    wide = tl.zeros((BW,), tl.int32)
    for shift in tl.static_range(-3, 4):
        word = _eroded(words_ptr, column + shift, W, ROWS)
        # Column -1 is outside the image: erosion ignores it.
        wide |= word & tl.where(column + shift > 0, before, -1)
        before = word
    wide |= wide << 1
    wide |= wide << 2
    wide |= wide >> 3
    row = tl.arange(0, ROWS)[:, None]
    keep = ((wide[None, :] >> (row + 4)) & 1) == 0
    row += tl.program_id(1) * ROWS
    tl.store(keep_ptr + row * W + column[None, :], keep, mask=(row < H) & (column[None, :] < W))


# ----------------------------------------------------------------- launchers
def launch_changed(
    matched: Tensor, generated: Tensor, value_range: tuple[float, float], threshold: float, ceiling: float | None
) -> tuple[Tensor, int]:
    """`changed` as words (B, strips of rows, W) of one bit a row, and the rows of a strip.

    matched, planes in order, holds levels if it is uint8, else values in the units of generated.

    Strips of 16 rows load each row 20/16 times, mostly from L2, and make 10 240 warps of 64 x 256 x 256. Each runs 700
    instructions a channel: 24 us on an H200 if nothing stalls (an estimate, see `_ranks`); the reads alone take 15.
    """
    generated = _op.dense(generated)
    batch, channels, height, width = generated.shape
    rows = min(16, max(4, triton.next_power_of_2(height)))  # 4: `_eroded` looks so far into the strip above
    words = generated.new_empty((batch, triton.cdiv(height, rows), width), dtype=torch.int32)
    offset, scale = scaling(value_range)
    with torch.cuda.device_of(generated):
        _changed_kernel[(batch, words.shape[1], triton.cdiv(width, 28))](
            matched,
            generated,
            words,
            height,
            width,
            *pixel_strides(generated),
            C=channels,
            ROWS=rows,
            LEVELS=matched.dtype == torch.uint8,
            OFFSET=offset,
            SCALE=scale,
            THRESHOLD=threshold,
            CEILING=ceiling,
            TAP0=_TAPS[0],
            TAP1=_TAPS[1],
            TAP2=_TAPS[2],
            ACC=_op.accumulator(generated, matched),
            num_warps=1,
        )
    return words, rows


def launch_keep(words: Tensor, rows: int, keep: Tensor) -> None:
    """keep, bool (B, 1, H, W), from what `launch_changed` returns."""
    batch, _, height, width = keep.shape
    block = min(256, max(32, triton.next_power_of_2(width)))
    with torch.cuda.device_of(words):
        _keep_kernel[(batch, words.shape[1], triton.cdiv(width, block))](
            words, keep, height, width, BW=block, ROWS=rows, num_warps=4
        )


def launch_keep_cuda(
    matched: Tensor,
    generated: Tensor,
    value_range: tuple[float, float],
    threshold: float,
    ceiling: float | None,
    keep: Tensor,
) -> None:
    """Blur, threshold and morphology by one CUDA C++ kernel."""
    generated = _op.dense(generated)
    _native.call(
        "tmgan_change_mask",
        matched.data_ptr(),
        generated.data_ptr(),
        keep.data_ptr(),
        *value_range,
        threshold,
        math.inf if ceiling is None else ceiling,
        *generated.shape,
        _op.is_nhwc(generated),
        matched.dtype == torch.uint8,
        *_native.place(generated),
    )


def _forward(
    original: Tensor,
    generated: Tensor,
    low: float,
    high: float,
    threshold: float,
    ceiling: float | None,
    ties: str,
    quantize: bool,
    eight_bit: bool,
    cuda: bool,
) -> Tensor:
    keep = _forward_fake(original, generated, low, high, threshold, ceiling, ties, quantize, eight_bit, cuda)
    if not keep.numel():
        return keep
    matched = torch.empty(
        generated.shape, device=generated.device, dtype=torch.uint8 if quantize else _op.wide(original, generated)
    )
    if cuda:
        launch_match_cuda(original, generated, (low, high), ties, quantize, eight_bit, matched)
        launch_keep_cuda(matched, generated, (low, high), threshold, ceiling, keep)
    else:
        launch_match(original, generated, (low, high), ties, quantize, eight_bit, matched)
        launch_keep(*launch_changed(matched, generated, (low, high), threshold, ceiling), keep)
    return keep


def _forward_fake(
    original: Tensor,
    generated: Tensor,
    low: float,
    high: float,
    threshold: float,
    ceiling: float | None,
    ties: str,
    quantize: bool,
    eight_bit: bool,
    cuda: bool,
) -> Tensor:
    return generated.new_empty((generated.shape[0], 1, *generated.shape[2:]), dtype=torch.bool)


forward_op = _op.register(
    "change_mask(Tensor original, Tensor generated, float low, float high, float threshold, "
    "float? ceiling, str ties, bool quantize, bool eight_bit, bool cuda) -> Tensor",
    _forward,
    _forward_fake,
)


# ---------------------------------------------------------------- public API
def change_mask(
    original: Tensor,
    generated: Tensor,
    value_range: tuple[float, float] = (-1.0, 1.0),
    threshold: float = 32.5,
    ceiling: float | None = None,
    ties: str = "rank",
    quantize: bool = True,
    eight_bit: bool = False,
    impl: str = "auto",
) -> Tensor:
    """The keep-mask of an edit: True where generated shows what original shows, apart from a change of its histogram.

    Args:
        original: floating (B, C, H, W), any memory layout.
        generated: the same shape; the dtype may differ.
        value_range: the values that mean black and white (0 and 255). As published: (0, 255) for images in [-1, 1],
            whose mask is then all ones.
        threshold: smallest difference that is a change, exclusive, in 0-255 units.
        ceiling: differences above it count as none; None: there is no such limit. As published: 160.
        ties, quantize, eight_bit: how original is matched to generated, see `match_histogram`. eight_bit=True, for a
            photo that holds 256 levels only, is what makes this operation fast; it changes no result.
        impl: "auto", "eager", "triton", or "cuda" with eight_bit=True or ties="level".

    Returns:
        bool (B, 1, H, W): True where the image was kept (text-irrelevant), False where it changed: one byte a pixel,
        what `masked_mae` reads cheapest. A NaN difference is no change. A constant for autograd.

    Raises:
        ValueError: the images are not floating (B, C, H, W) of equal shapes, value_range is not increasing, ties is
            neither name, or ceiling is not above threshold.

    Example:
        >>> original = torch.arange(256.0).view(1, 1, 16, 16).repeat(1, 1, 1, 2)
        >>> generated = original.clone()
        >>> generated[..., 4:8, 4:8] = 255.0
        >>> keep = change_mask(original, generated, value_range=(0, 255))
        >>> keep.shape, keep[0, 0, 6, 6].item(), keep[0, 0, 6, 24].item()
        (torch.Size([1, 1, 16, 32]), False, True)
    """
    low, high = check_match("change_mask", ("original", "generated"), (original, generated), value_range, ties)
    threshold = float(threshold)
    if ceiling is not None:
        ceiling = float(ceiling)
        if not threshold < ceiling:
            raise ValueError(f"change_mask: ceiling={ceiling} must be above threshold={threshold}, or None")
    original, generated = original.detach(), generated.detach()
    chosen = choose_match("change_mask", impl, (original, generated), ties, eight_bit)
    if chosen == "eager":
        return change_mask_eager(original, generated, (low, high), threshold, ceiling, ties, quantize, eight_bit)
    return forward_op(original, generated, low, high, threshold, ceiling, ties, quantize, eight_bit, chosen == "cuda")

"""Histogram matching: every image and channel of one batch gets the histogram of the same plane of another.

    ties="rank"     the k-th smallest pixel of source (equal ones in raster order) gets the k-th smallest value of
                    reference, so the result has exactly the histogram of reference; `quantize` floors it in 0-255 units
    ties="level"    256 grey levels; a level whose share of darker or equal pixels is q gets the level that has share q
                    in reference, interpolated between the levels that occur: skimage.exposure.match_histograms

In 0-255 units a value is (x - low) * 255 / (high - low). A level is its floor (`quantize`) or its nearest integer
(`ties="level"`, `eight_bit`), within 0..255. NaN counts as larger than all numbers, as a level as 255.

How: a rank is (pixels of smaller values) + (equal pixels before it), and the floored result at a rank is the number of
levels whose cumulated count in reference does not exceed it, so a quantised match needs the histogram of reference, not
its order. If source holds 256 levels only (`eight_bit`, a photo), counting gives its ranks too: histograms of chunks,
their running sums, then one warp a chunk hands out the ranks. Else torch sorts. All counting is in integers.

Traffic for three channels of e bytes, eight_bit and quantize, where the keys and levels of one byte stay in L2: reads
3e of each image and writes 3e a pixel. Not differentiable: a constant for autograd.
Source: `matching_histogram` of the paper's code (which sorts; quantize is its `int_out`).
"""

import math

import torch
from torch import Tensor

from tmgan_kernels import _native, _op
from tmgan_kernels._dispatch import check_image, check_one_of, choose
from tmgan_kernels._ranks import counted, cumulated, first_above, launch_ranks, pixel_strides, put_at_rank, scaling
from tmgan_kernels._stream import my_block
from tmgan_kernels._triton import jit, tl, triton

TIES = ("rank", "level")


# ---------------------------------------------------------------- definition
def levels_eager(x: Tensor, value_range: tuple[float, float], rounded: bool) -> Tensor:
    """The level of every value, int64 in 0..255: its floor or its nearest integer in 0-255 units."""
    offset, scale = scaling(value_range, rounded)
    value = (x.to(_op.wide(x)) - offset) * scale
    return torch.where(value < 255, value.clamp(min=0), 255.0).long()


def _ranked_eager(source: Tensor, reference: Tensor, value_range: tuple[float, float], eight_bit: bool) -> Tensor:
    key = levels_eager(source, value_range, rounded=True) if eight_bit else source
    order = key.flatten(2).sort(dim=2, stable=True).indices
    values = reference.flatten(2).sort(dim=2).values
    return torch.empty_like(values).scatter_(2, order, values).view(source.shape)


def _cumulated_eager(levels: Tensor) -> Tensor:
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.int64, device=levels.device)
    return counts.scatter_add_(2, levels.flatten(2), torch.ones_like(levels).flatten(2)).cumsum(2)


def _interpolated_eager(source: Tensor, reference: Tensor, value_range: tuple[float, float]) -> Tensor:
    """numpy.interp(share in source, shares in reference, levels), in counts, so that only its division rounds."""
    levels = levels_eager(source, value_range, rounded=True)
    darker, known = (_cumulated_eager(x) for x in (levels, levels_eager(reference, value_range, rounded=True)))
    last = source.shape[2] * source.shape[3] - 1
    above = torch.searchsorted(known, darker.clamp(max=last), right=True)
    before = known.gather(2, (above - 1).clamp(min=0)) * (above > 0)
    below = torch.searchsorted(known, before)
    part = (above - below) * (darker - before) / (known.gather(2, above) - before).double()
    table = torch.where(before > 0, below + part, above.double())
    return table.gather(2, levels.flatten(2)).view(source.shape)


def match_255_eager(
    source: Tensor, reference: Tensor, value_range: tuple[float, float], ties: str, quantize: bool, eight_bit: bool
) -> Tensor:
    """The matched image in 0-255 units, float32 or float64."""
    wide = _op.wide(source, reference)
    if ties == "level":
        value = _interpolated_eager(source, reference, value_range)
        return (value.floor() if quantize else value).to(wide)
    value = _ranked_eager(source, reference, value_range, eight_bit)
    if quantize:
        return levels_eager(value, value_range, rounded=False).to(wide)
    offset, scale = scaling(value_range)
    return (value.to(wide) - offset) * scale


def match_histogram_eager(
    source: Tensor,
    reference: Tensor,
    value_range: tuple[float, float] = (-1.0, 1.0),
    ties: str = "rank",
    quantize: bool = False,
    eight_bit: bool = False,
) -> Tensor:
    """The definition of `match_histogram` in plain PyTorch."""
    if ties == "rank" and not quantize:
        matched = _ranked_eager(source, reference, value_range, eight_bit)
    else:
        low, high = value_range
        matched = match_255_eager(source, reference, value_range, ties, quantize, eight_bit)
        matched = matched * ((high - low) / 255.0) + low
    return _op.empty_like(source).copy_(matched)


# ------------------------------------------------------------------- kernels
@jit
def _scatter_kernel(
    order_ptr,
    lut_ptr,
    out_ptr,
    count,
    stride_b,
    stride_c,
    stride_p,
    LOW: tl.constexpr,
    STEP: tl.constexpr,
    C: tl.constexpr,
    BLOCK: tl.constexpr,
    QUANTIZE: tl.constexpr,
    LEVELS: tl.constexpr,
    ACC: tl.constexpr,
):
    """order holds, for each rank of a plane, the pixel that has it."""
    plane, block = my_block(count, BLOCK)
    rank = block * BLOCK + tl.arange(0, BLOCK)
    inside = rank < count
    pixel = tl.load(order_ptr + plane * count + rank, mask=inside, other=0).to(tl.int32)
    put_at_rank(
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
        LOW,
        STEP,
        C,
        QUANTIZE,
        LEVELS,
        ACC,
    )


@jit
def _table_kernel(
    source_ptr,
    reference_ptr,
    table_ptr,
    count,
    LOW: tl.constexpr,
    STEP: tl.constexpr,
    QUANTIZE: tl.constexpr,
    LEVELS: tl.constexpr,
    ACC: tl.constexpr,
):
    """`_interpolated_eager`: the matched value of every level of one plane, from both cumulated histograms."""
    plane = tl.program_id(0).to(tl.int64)
    level = tl.arange(0, 256)
    reference_ptr += plane * 256
    darker = tl.load(source_ptr + plane * 256 + level)
    above = first_above(reference_ptr, tl.minimum(darker, count - 1))
    before = tl.load(reference_ptr + above - 1, mask=above > 0, other=0)
    below = first_above(reference_ptr, tl.maximum(before, 1) - 1)
    width = tl.load(reference_ptr + above) - before
    part = (above - below).to(tl.float64) * (darker - before).to(tl.float64) / width.to(tl.float64)
    value = tl.where(before > 0, below.to(tl.float64) + part, above.to(tl.float64))
    if QUANTIZE:
        value = tl.floor(value)
    value = value.to(ACC)
    if not LEVELS:
        value = value * STEP + LOW
    tl.store(table_ptr + plane * 256 + level, value.to(table_ptr.dtype.element_ty))


@jit
def _look_up_kernel(
    keys_ptr, table_ptr, out_ptr, count, stride_b, stride_c, stride_p, C: tl.constexpr, BLOCK: tl.constexpr
):
    plane, block = my_block(count, BLOCK)
    pixel = block * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < count
    key = tl.load(keys_ptr + plane * count + pixel, mask=inside, other=0).to(tl.int32)
    out_ptr += plane // C * stride_b + plane % C * stride_c
    tl.store(out_ptr + pixel * stride_p, tl.load(table_ptr + plane * 256 + key), mask=inside)


# ----------------------------------------------------------------- launchers
def _planes(x: Tensor) -> Tensor:
    """(B, C, H * W), contiguous: what torch sorts, or copies to by itself."""
    return x.contiguous().flatten(2)


def launch_match(
    source: Tensor,
    reference: Tensor,
    value_range: tuple[float, float],
    ties: str,
    quantize: bool,
    eight_bit: bool,
    out: Tensor,
) -> None:
    """The matched image into out, dense: as levels if out is uint8 (then quantize), else in the units of the input."""
    batch, channels, height, width = source.shape
    count, planes = height * width, batch * channels
    low, high = value_range
    units = {
        "LOW": low,
        "STEP": (high - low) / 255.0,
        "QUANTIZE": quantize,
        "LEVELS": out.dtype == torch.uint8,
        "ACC": _op.accumulator(source, reference),
    }
    place = count, *pixel_strides(out)
    blocks = (planes * triton.cdiv(count, 1024),)
    with torch.cuda.device_of(out):
        if ties == "level":
            levels, counts = counted(source, value_range, rounded=True, keys=True)
            darker, known = cumulated(counts), cumulated(counted(reference, value_range, rounded=True)[1])
            table = out.new_empty((planes, 256))
            _table_kernel[(planes,)](darker, known, table, count, **units, num_warps=4)
            _look_up_kernel[blocks](levels, table, out, *place, C=channels, BLOCK=1024, num_warps=4)
            return
        if quantize:
            lut = cumulated(counted(reference, value_range, rounded=False)[1])
        else:
            lut = _planes(reference).sort(dim=2).values
        if eight_bit:
            levels, counts = counted(source, value_range, rounded=True, keys=True)
            assert levels is not None
            launch_ranks(levels, counts, lut, out, units)
        else:
            order = _planes(source).sort(dim=2, stable=True).indices
            _scatter_kernel[blocks](order, lut, out, *place, **units, C=channels, BLOCK=1024, num_warps=8)


def launch_match_cuda(
    source: Tensor,
    reference: Tensor,
    value_range: tuple[float, float],
    ties: str,
    quantize: bool,
    eight_bit: bool,
    out: Tensor,
) -> None:
    """`launch_match`, by the CUDA C++ kernels: eight_bit or by level."""
    source, reference = _op.dense(source), _op.dense(reference)
    # Only the reference's order, where values are not floored, still needs torch's sort.
    lut = None if quantize or ties == "level" else _planes(reference).sort(dim=2).values
    space = _native.workspace("tmgan_match_histogram", source, *source.shape)
    dtype, device, stream = _native.place(source)
    _native.call(
        "tmgan_match_histogram",
        source.data_ptr(),
        reference.data_ptr(),
        None if lut is None else lut.data_ptr(),
        out.data_ptr(),
        space.data_ptr(),
        *value_range,
        ties == "level",
        quantize,
        *source.shape,
        _op.is_nhwc(source),
        _op.is_nhwc(reference),
        _op.is_nhwc(out),
        dtype,
        _native.DTYPES[reference.dtype],
        _native.DTYPES[out.dtype],
        device,
        stream,
    )


def _forward(
    source: Tensor, reference: Tensor, low: float, high: float, ties: str, quantize: bool, eight_bit: bool, cuda: bool
) -> Tensor:
    out = _forward_fake(source, reference, low, high, ties, quantize, eight_bit, cuda)
    if out.numel():
        launch = launch_match_cuda if cuda else launch_match
        launch(source, reference, (low, high), ties, quantize, eight_bit, out)
    return out


def _forward_fake(
    source: Tensor, reference: Tensor, low: float, high: float, ties: str, quantize: bool, eight_bit: bool, cuda: bool
) -> Tensor:
    return _op.empty_like(source)


forward_op = _op.register(
    "match_histogram(Tensor source, Tensor reference, float low, float high, str ties, "
    "bool quantize, bool eight_bit, bool cuda) -> Tensor",
    _forward,
    _forward_fake,
)


# ---------------------------------------------------------------- public API
def check_match(
    operation: str, names: tuple[str, str], images: tuple[Tensor, Tensor], value_range: tuple[float, float], ties: str
) -> tuple[float, float]:
    """Raise ValueError unless two images can be matched so; returns value_range as floats."""
    for name, image in zip(names, images, strict=True):
        check_image(operation, name, image)
    if images[0].shape != images[1].shape:
        raise ValueError(
            f"{operation}: {names[0]} {tuple(images[0].shape)} and {names[1]} {tuple(images[1].shape)} "
            "must have equal shapes; resize one of them"
        )
    low, high = map(float, value_range)
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(
            f"{operation}: value_range={value_range!r} must be the values of black and of white, the "
            "smaller first, such as (-1, 1) or (0, 255)"
        )
    check_one_of(operation, "ties", ties, TIES)
    return low, high


def choose_match(operation: str, impl: str, images: tuple[Tensor, Tensor], ties: str, eight_bit: bool) -> str:
    """`choose`; the CUDA C++ kernels count, and refuse what has to be sorted."""
    sorts = ties == "rank" and not eight_bit
    chosen = choose(operation, impl, *images, auto_without_cuda=sorts)
    if chosen == "cuda" and sorts:
        raise RuntimeError(
            f"{operation}: impl='cuda' counts levels and cannot sort; use eight_bit=True if the image to "
            "be matched holds 256 levels only, ties='level', or impl='auto'"
        )
    return chosen


def match_histogram(
    source: Tensor,
    reference: Tensor,
    value_range: tuple[float, float] = (-1.0, 1.0),
    ties: str = "rank",
    quantize: bool = False,
    eight_bit: bool = False,
    impl: str = "auto",
) -> Tensor:
    """source with the histogram of reference, per image and channel. Not differentiable: the result is a constant.

    Args:
        source: floating (B, C, H, W), any memory layout.
        reference: the same shape; the dtype may differ.
        value_range: the values that mean black and white (0 and 255). Levels are clamped to it.
        ties: what equal pixels of source get. "rank": different values, in raster order, so that the result has exactly
            the histogram of reference (the published sort). "level": the same value, that of their grey level among
            256 (`skimage.exposure.match_histograms` of images rounded to integers); floats within a level count as
            equal.
        quantize: floor the matched values in 0-255 units (published `int_out`).
        eight_bit: your promise that source holds only the 256 evenly spaced levels of value_range: an 8-bit photo, as
            bytes / 127.5 - 1, in any dtype. Ranks then cost counting instead of a sort, and are the same. Nothing
            checks the promise: values that round to one level count as equal, and are ranked in raster order.
        impl: "auto", "eager", "triton", or "cuda" with eight_bit=True or ties="level".

    Returns:
        an image of the shape, dtype and memory format of source, in the units of value_range.

    Raises:
        ValueError: the images are not floating (B, C, H, W) of equal shapes, value_range is not increasing, or ties is
            neither name.

    Example:
        >>> source = torch.tensor([[[[0.0, 0.0, 9.0]]]])
        >>> reference = torch.tensor([[[[80.0, 40.0, 60.0]]]])
        >>> match_histogram(source, reference, value_range=(0, 255))
        tensor([[[[40., 60., 80.]]]])
        >>> match_histogram(source, reference, value_range=(0, 255), ties="level")
        tensor([[[[60., 60., 80.]]]])
    """
    low, high = check_match("match_histogram", ("source", "reference"), (source, reference), value_range, ties)
    source, reference = source.detach(), reference.detach()
    chosen = choose_match("match_histogram", impl, (source, reference), ties, eight_bit)
    if chosen == "eager":
        return match_histogram_eager(source, reference, (low, high), ties, quantize, eight_bit)
    return forward_op(source, reference, low, high, ties, quantize, eight_bit, chosen == "cuda")

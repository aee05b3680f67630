"""Separable, symmetric filters of odd size on every channel: what `box_blur` and `gaussian_blur` share.

    out[r, c] = sum of w[i] w[j] image[r + i, c + j] over i, j in [-R, R],   w[-i] = w[i],   sum of w = 1

Outside the image lie zeros, its outermost pixels ("replicate"), or its mirror image about them ("reflect"). One kernel
does both passes and rounds once: 2e bytes a value of e bytes (one read, one write), forward and backward alike, and
nothing is saved. A filter is linear, so its derivative is its adjoint, whose derivative is the filter: any order.

The adjoint along an axis of n pixels, of the matrix A[q, o] = sum of w[p - q] over the positions p that read pixel o:
zeros: A is symmetric. replicate: pixel 0 answers for all positions <= 0, so output 0 of the adjoint weighs input o by
the tail w[o] + w[o+1] + ... instead of w[o]; likewise at the other end; elsewhere A is symmetric. reflect: A = B S^-1,
with B symmetric and S the identity but for a 2 at both ends (each is its own mirror image): its adjoint is S^-1 A S.
"""

import ctypes
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan_kernels import _native, _op
from tmgan_kernels._triton import jit, tl, triton

SIZES = (3, 5, 7, 9, 11, 13, 15)
BORDERS = ("zeros", "replicate", "reflect")
LANES = 32  # one warp a program: its lanes share nothing, so nothing is gained from more


# ---------------------------------------------------------------- definition
def separable_eager(image: Tensor, weights: tuple[float, ...], border: str) -> Tensor:
    """The definition in plain PyTorch, in float32 or better, returned so."""
    radius = len(weights) // 2
    height, width = image.shape[2:]
    padded = F.pad(image.to(_op.wide(image)), [radius] * 4, mode="constant" if border == "zeros" else border)
    rows = sum(weight * padded[..., i : i + width] for i, weight in enumerate(weights))
    assert isinstance(rows, Tensor)
    out = sum(weight * rows[..., i : i + height, :] for i, weight in enumerate(weights))
    assert isinstance(out, Tensor)
    return out


def check_reach(operation: str, image: Tensor, size: int, border: str) -> None:
    """Raise ValueError where a filter of this size reaches beyond the mirror image."""
    if border == "reflect" and min(image.shape[2:]) <= size // 2:
        raise ValueError(
            f"{operation}: border='reflect' with a size of {size} needs height and width greater than "
            f"{size // 2}, got {tuple(image.shape)}; use 'replicate' or a smaller size"
        )


# ------------------------------------------------------------------- kernels
@jit
def split_columns(x, V: tl.constexpr):
    """The V columns of x, (LANES, V), as a tuple of (LANES, 1): a renaming of registers, no instruction."""
    parts = (x,)
    for level in tl.static_range(V.bit_length() - 1):
        halves = ()
        for i in tl.static_range(1 << level):
            pair = tl.reshape(parts[i], (x.shape[0], 2, V >> (level + 1)))
            left, right = tl.split(tl.permute(pair, (0, 2, 1)))
            halves = halves + (left, right)
        parts = halves
    return parts


@jit
def join_columns(parts, V: tl.constexpr):
    """The inverse of split_columns."""
    for level in tl.static_range(V.bit_length() - 1):
        pairs = ()
        for i in tl.static_range(V >> (level + 1)):
            pair = tl.permute(tl.join(parts[2 * i], parts[2 * i + 1]), (0, 2, 1))
            pairs = pairs + (tl.reshape(pair, (pair.shape[0], 2 << level)),)
        parts = pairs
    return parts[0]


@jit
def source(i, size, EXTEND: tl.constexpr):
    """The index of an axis that position i reads; with zeros it may lie outside."""
    if EXTEND == "replicate":
        i = tl.minimum(tl.maximum(i, 0), size - 1)
    if EXTEND == "reflect":
        i = tl.abs(i)
        i = tl.minimum(i, 2 * (size - 1) - i)
    return i


@jit
def reach(n, groups, R: tl.constexpr, V: tl.constexpr, STEP: tl.constexpr, EXTEND: tl.constexpr):
    """What of a row a lane reads to sum its own vector n: how far each vector lies from n, and whether it exists.

    Where taps are whole vectors apart (V divides STEP), one vector a tap, at the border where that tap reads; else the
    2 HALO + 1 vectors around n, whose border values `mend_ends` puts in place.
    """
    shifts = ()
    exists = ()
    if STEP % V == 0:
        pixel = n * V // STEP
        width = groups * V // STEP
        for t in tl.static_range(-R, R + 1):
            read = source(pixel + t, width, EXTEND)
            shifts = shifts + ((read - pixel) * STEP,)
            exists = exists + ((read >= 0) & (read < width) if EXTEND == "zeros" else n >= 0,)
    else:
        HALO: tl.constexpr = (R * STEP + V - 1) // V
        for t in tl.static_range(-HALO, HALO + 1):
            shifts = shifts + (t * V,)
            exists = exists + ((n + t >= 0) & (n + t < groups),)
    return shifts, exists


@jit
def read_row(x_ptr, row, wanted, own, shifts, exists, H, stride, EXTEND: tl.constexpr):
    """The vectors in reach in one row, as they are stored: a tuple of (LANES, V)."""
    if EXTEND == "zeros":
        wanted = wanted & (row >= 0) & (row < H)
    x_ptr += source(row, H, EXTEND) * stride + own
    vectors = ()
    for i in tl.static_range(len(shifts)):
        vectors = vectors + (tl.load(x_ptr + shifts[i], mask=wanted & exists[i], other=0.0),)
    return vectors


@jit
def replace_where(values, PLACE: tl.constexpr, condition, value):
    return values[:PLACE] + (tl.where(condition, value, values[PLACE]),) + values[PLACE + 1 :]


@jit
def mend_ends(
    window, n, groups, R: tl.constexpr, V: tl.constexpr, STEP: tl.constexpr, EXTEND: tl.constexpr, DOUBLE: tl.constexpr
):
    """Replace the zeros read outside a row by the values that stand for them; DOUBLE its outermost pixels first.

    All are registers of the same lane: neither loads nor clamped columns, which would cost the 128-bit loads. Value i
    of a row is window[HOME - lane * V + i] of its vector `lane`; from the other end a row looks the same.
    """
    LAST: tl.constexpr = len(window) - 1
    HOME: tl.constexpr = (len(window) - V) // 2
    from_end = groups - 1 - n
    if DOUBLE:
        for lane in tl.static_range((R + 1) * STEP // V + 1):
            for i in tl.static_range(STEP):
                if lane * V - i <= HOME and i - lane * V <= LAST - HOME:
                    twice = 2 * window[HOME - lane * V + i]
                    window = replace_where(window, HOME - lane * V + i, n == lane, twice)
                    twice = 2 * window[LAST - HOME + lane * V - i]
                    window = replace_where(window, LAST - HOME + lane * V - i, from_end == lane, twice)
    # The value i places before a row is d = ceil(i / STEP) pixels before it: value 2 d STEP - i of the row mirrors it,
    # value d STEP - i, of the first pixel, replicates it.
    TIMES: tl.constexpr = 2 if EXTEND == "reflect" else 1
    for lane in tl.static_range(HOME // V):
        for i in tl.static_range(1, R * STEP - lane * V + 1):
            if TIMES * ((i + STEP - 1) // STEP * STEP) - i - lane * V <= LAST - HOME:
                value = window[HOME - lane * V + TIMES * ((i + STEP - 1) // STEP * STEP) - i]
                window = replace_where(window, HOME - lane * V - i, n == lane, value)
                value = window[LAST - HOME + lane * V - TIMES * ((i + STEP - 1) // STEP * STEP) + i]
                window = replace_where(window, LAST - HOME + lane * V + i, from_end == lane, value)
    return window


@jit
def sum_row(
    vectors,
    n,
    groups,
    weights,
    tails,
    R: tl.constexpr,
    V: tl.constexpr,
    STEP: tl.constexpr,
    EXTEND: tl.constexpr,
    FOLD: tl.constexpr,
    DOUBLE: tl.constexpr,
    PER_IMAGE: tl.constexpr,
    ACC: tl.constexpr,
):
    """The horizontal pass over one row as it is stored: (LANES, V) in ACC."""
    WHOLE: tl.constexpr = STEP % V == 0
    window = ()
    for i in tl.static_range(len(vectors)):
        if WHOLE:
            value = vectors[i].to(ACC)
            if DOUBLE:
                read = source(n * V // STEP + (i - R), groups * V // STEP, EXTEND)
                value = tl.where((read == 0) | (read == groups * V // STEP - 1), 2 * value, value)
            window = window + (value,)
        else:
            window = window + split_columns(vectors[i].to(ACC), V)
    if not WHOLE and EXTEND != "zeros":
        window = mend_ends(window, n, groups, R, V, STEP, EXTEND, DOUBLE)
    PIECES: tl.constexpr = 1 if WHOLE else V
    GAP: tl.constexpr = 1 if WHOLE else STEP
    HOME: tl.constexpr = (len(window) - PIECES) // 2
    sums = ()
    for e in tl.static_range(PIECES):
        total = weights[R] * window[HOME + e]
        for t in tl.static_range(1, R + 1):
            pair = window[HOME + e - t * GAP] + window[HOME + e + t * GAP]  # type: ignore[var-annotated]  # it grows
            total += weights[R + t] * (tl.where(weights[R + t] > 0, pair, 0.0) if PER_IMAGE else pair)
        if (FOLD or DOUBLE) and (e < STEP or PIECES - e <= STEP):  # else never a value of an outermost pixel
            at_start = n * V + e < STEP
            at_end = n * V + e >= groups * V - STEP
            if FOLD:
                for t in tl.static_range(R):  # an input near the end once more for every position beyond the end
                    extra = tl.where(at_start, window[HOME + e + t * GAP], 0.0)
                    extra += tl.where(at_end, window[HOME + e - t * GAP], 0.0)
                    total += tails[R + t + 1] * (tl.where(weights[R + t + 1] > 0, extra, 0.0) if PER_IMAGE else extra)
            if DOUBLE:
                total = tl.where(at_start | at_end, 0.5 * total, total)
        sums = sums + (total,)
    return sums[0] if WHOLE else join_columns(sums, V)


@jit
def march(
    x_ptr,
    out_ptr,
    n,
    first,
    valid,
    H,
    groups,
    rows,
    weights,
    tails,
    R: tl.constexpr,
    V: tl.constexpr,
    STEP: tl.constexpr,
    EXTEND: tl.constexpr,
    FOLD: tl.constexpr,
    DOUBLE: tl.constexpr,
    PER_IMAGE: tl.constexpr,
    ACC: tl.constexpr,
):
    """Output rows [first, first + rows) of vector n, reading and summing every input row once.

    partial[m] is what output row (current - R + m) has so far. Adding a row's share and moving all of them one place
    is one multiply-add each, so that nothing is copied though the loop over rows is not unrolled.
    """
    shifts, exists = reach(n, groups, R, V, STEP, EXTEND)
    own = n * V + tl.arange(0, V)[None, :]
    stride = groups * V
    end = tl.minimum(first + rows, H)
    row = first - R
    partial = ()
    for _ in tl.static_range(2 * R):
        partial = partial + (tl.zeros((n.shape[0], V), ACC),)
    coming = ()  # two rows are under way while one is summed
    for i in tl.static_range(2):
        wanted = valid & (row + (i - R) < end)
        coming = coming + (read_row(x_ptr, row + i, wanted, own, shifts, exists, H, stride, EXTEND),)
    for _ in range(0, rows + 2 * R, 2):
        for _ in tl.static_range(2):
            vectors = coming[0]
            wanted = valid & (row + (2 - R) < end)
            coming = (coming[1], read_row(x_ptr, row + 2, wanted, own, shifts, exists, H, stride, EXTEND))
            value = sum_row(vectors, n, groups, weights, tails, R, V, STEP, EXTEND, FOLD, DOUBLE, PER_IMAGE, ACC)
            if DOUBLE:
                read = source(row, H, EXTEND)
                value *= tl.where((read == 0) | (read == H - 1), 2.0, 1.0)
            moved = ()
            for m in tl.static_range(2 * R + 1):
                share = tl.where(weights[m] > 0, value, 0.0) if PER_IMAGE else value  # not 0 * inf
                if FOLD:
                    outermost = row == R - m if m <= R else row == H - 1 + (R - m)
                    weight = tl.where(outermost, tl.full(row.shape, tails[m], ACC), tl.full(row.shape, weights[m], ACC))
                    if m == R:
                        weight += tl.where(row == H - 1, tl.full(row.shape, tails[R + 1], ACC), 0.0)
                    share *= weight
                else:
                    share *= weights[m]
                moved = moved + (share if m == 2 * R else partial[m] + share,)
            partial = moved[1:]
            out_row = row - R
            out = moved[0]
            if DOUBLE:
                out *= tl.where((out_row == 0) | (out_row == H - 1), 0.5, 1.0)
            keep = valid & (out_row >= first) & (out_row < end)
            tl.store(out_ptr + (out_row * stride + own), out.to(out_ptr.dtype.element_ty), mask=keep)
            row += 1


@jit(do_not_specialize=["rows"])  # they depend on the batch
def separable_kernel(
    x_ptr,
    out_ptr,
    size_ptr,
    H,
    groups,
    planes,
    rows,
    WEIGHTS: tl.constexpr,
    TAILS: tl.constexpr,
    R: tl.constexpr,
    PER_IMAGE: tl.constexpr,
    V: tl.constexpr,
    STEP: tl.constexpr,
    EXTEND: tl.constexpr,
    FOLD: tl.constexpr,
    DOUBLE: tl.constexpr,
    LANES: tl.constexpr,
    ACC: tl.constexpr,
):
    """Filter images of `planes` planes of H rows of `groups` vectors of V values; taps are STEP values apart.

    A lane is one strip of `rows` rows of one vector, anywhere in the image: narrow images waste no lanes.
    PER_IMAGE: a mean whose size, at most 2R + 1, size_ptr holds for every image; else WEIGHTS and TAILS, 2R + 1 each.
    """
    strips = tl.cdiv(H, rows)
    lanes = planes * strips * groups
    blocks = tl.cdiv(lanes, LANES)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    lane = (tl.program_id(0) % blocks) * LANES + tl.arange(0, LANES)[:, None]
    n = lane % groups
    first = (lane // groups) % strips * rows
    plane = lane // (groups * strips) * (H * groups * V)
    x_ptr += image * planes * H * groups * V + plane
    out_ptr += image * planes * H * groups * V + plane
    if PER_IMAGE:
        radius = tl.minimum(tl.maximum(tl.load(size_ptr + image).to(tl.int32) // 2, 1), R)
        size = (2 * radius + 1).to(ACC)
        weights = ()
        tails = ()
        for m in tl.static_range(2 * R + 1):
            further = tl.minimum(radius + (R - m), radius - (R - m))  # taps further out than this one
            weights = weights + (tl.where(further >= 0, 1.0 / size, 0.0),)
            tails = tails + (tl.maximum(further + 1, 0) / size,)
        march(
            x_ptr,
            out_ptr,
            n,
            first,
            lane < lanes,
            H,
            groups,
            rows,
            weights,
            tails,
            R,
            V,
            STEP,
            EXTEND,
            FOLD,
            DOUBLE,
            PER_IMAGE,
            ACC,
        )
    else:
        march(
            x_ptr,
            out_ptr,
            n,
            first,
            lane < lanes,
            H,
            groups,
            rows,
            WEIGHTS,
            TAILS,
            R,
            V,
            STEP,
            EXTEND,
            FOLD,
            DOUBLE,
            PER_IMAGE,
            ACC,
        )


# ------------------------------------------------------------------ launcher
def vector_width(length: int, step: int, radius: int, itemsize: int, per_image: bool) -> int:
    """Values a lane holds: 16 bytes where rows are whole vectors and the registers of a lane suffice.

    Estimated 32-bit registers: two rows under way as stored, one row in float32, 2 * radius partial sums, weights
    that are not compiled in. The compiler adds some 40; more than 255 would spill. Windows of over three vectors on
    either side (NHWC only) cost more instructions than reading each tap by itself, which width 1 does.
    """
    vector = 16 // itemsize
    while vector > 1:
        whole = step % vector == 0
        vectors = 2 * radius + 1 if whole else 2 * -(-radius * step // vector) + 1
        registers = 2 * vectors * -(-vector * itemsize // 4) + (vectors + 2 * radius) * vector + 4 * radius * per_image
        if length % vector == 0 and (whole or radius * step <= 3 * vector) and registers <= 160:
            break
        vector //= 2
    return vector


def strip_rows(columns: int, height: int) -> int:
    """Rows a lane marches over, for `columns` columns of vectors in all images together.

    A strip of n rows reads and sums n + 2R, so long strips are cheap; but an H200 wants some 10 KB of reads under way
    on each of its 132 processors: 49152 lanes are 11.6 warps a processor, each with two rows of 32 vectors of 16 bytes.
    """
    rows = max(2, min(64, triton.next_power_of_2(height)))
    while rows > 8 and columns * triton.cdiv(height, rows) < 49152:
        rows //= 2
    return rows


@lru_cache(maxsize=256)
def tails_of(weights: tuple[float, ...]) -> tuple[float, ...]:
    """For every weight the sum of it and of those further out."""
    half = weights[len(weights) // 2 :]
    sums = [sum(half[i:]) for i in range(len(half))]
    return (*sums[:0:-1], *sums)


def launch(x: Tensor, weights: tuple[float, ...], border: str, adjoint: bool, sizes: Tensor | None = None) -> Tensor:
    """Filter x by 2R + 1 weights; or with `sizes` (B,) by means of up to as many pixels, whatever the weights."""
    x = _op.dense(x)
    out = _op.empty_like(x)
    if not out.numel():
        return out
    batch, channels, height, width = x.shape
    radius = len(weights) // 2
    step, planes = (channels, 1) if _op.is_nhwc(x) else (1, channels)
    vector = vector_width(width * step, step, radius, x.element_size(), sizes is not None)
    groups = width * step // vector
    rows = strip_rows(batch * planes * groups, height)
    blocks = triton.cdiv(planes * groups * triton.cdiv(height, rows), LANES)
    fold, double = adjoint and border == "replicate", adjoint and border == "reflect"
    with torch.cuda.device_of(x):
        separable_kernel[(batch * blocks,)](
            x,
            out,
            sizes,
            height,
            groups,
            planes,
            rows,
            WEIGHTS=weights,
            TAILS=tails_of(weights),
            R=radius,
            PER_IMAGE=sizes is not None,
            V=vector,
            STEP=step,
            EXTEND="zeros" if fold else border,
            FOLD=fold,
            DOUBLE=double,
            LANES=LANES,
            ACC=_op.accumulator(x),
            num_warps=1,
        )
    return out


@lru_cache(maxsize=256)
def _half(weights: tuple[float, ...]) -> ctypes.Array:
    """The weights from the central one outwards, as the library takes them."""
    half = weights[len(weights) // 2 :]
    return (ctypes.c_float * len(half))(*half)


def launch_cuda(x: Tensor, weights: tuple[float, ...], border: str, adjoint: bool, sizes: Tensor | None) -> Tensor:
    """`launch`, by the CUDA C++ kernel."""
    x = _op.dense(x)
    out = _op.empty_like(x)
    if not out.numel():
        return out
    if sizes is not None and sizes.dtype not in (torch.int32, torch.int64):
        sizes = sizes.int()
    _native.call(
        "tmgan_blur",
        x.data_ptr(),
        out.data_ptr(),
        None if sizes is None else sizes.data_ptr(),
        0 if sizes is None else sizes.element_size(),
        _half(weights),
        len(weights) // 2,
        _native.BORDERS[border],
        adjoint,
        *x.shape,
        _op.is_nhwc(x),
        *_native.place(x),
    )
    return out

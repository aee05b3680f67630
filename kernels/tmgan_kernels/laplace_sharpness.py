"""Sharpness of every pixel: the absolute 4-neighbour Laplacian of the channel mean.

    g = mean over channels of image,   L(g)[r, c] = g[r-1, c] + g[r+1, c] + g[r, c-1] + g[r, c+1] - 4 g[r, c]
    sharpness = |L(g)|

Traffic for three channels of e bytes: forward reads 3e and writes e (+ 1 when a gradient is wanted) bytes a pixel;
backward reads e + 1 and writes 3e. Saved: the sign of L(g), one int8 a pixel. L is symmetric for both borders, so its
adjoint is the same stencil. Interleaved (NHWC) channels are summed between a thread's registers: see `_pieces`. A plane
of channel means, made first by a kernel of its own, would cost 8 bytes a pixel more. Differentiable any number of
times (second derivatives through the eager definition); the subgradient at L(g) = 0 is 0. Source: equation 1 of the
paper and its `Laplace operator`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan_kernels import _op
from tmgan_kernels._dispatch import check_image, check_one_of, choose
from tmgan_kernels._pieces import apart, interleaved, load_interleaved, per_piece, store_interleaved, together
from tmgan_kernels._triton import jit, tl, triton

BORDERS = ("replicate", "zeros")


# ---------------------------------------------------------------- definition
def laplacian_eager(image: Tensor, border: str = "replicate") -> Tensor:
    """Signed L(g) in plain PyTorch, (B, 1, H, W), computed in float32 or better and returned so."""
    grey = image.to(_op.wide(image)).mean(dim=1, keepdim=True)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate" if border == "replicate" else "constant")
    up, down = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    left, right = padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]
    return up + down + left + right - 4.0 * grey


def laplace_sharpness_eager(image: Tensor, border: str = "replicate") -> Tensor:
    """The definition of `laplace_sharpness` in plain PyTorch."""
    return laplacian_eager(image, border).abs().to(image.dtype)


# ------------------------------------------------------------------- kernels
@jit
def grey_row(
    x_ptr,
    row,
    piece,
    W,
    stride_c,
    stride_h,
    stride_w,
    H,
    C: tl.constexpr,
    T: tl.constexpr,
    V: tl.constexpr,
    REPLICATE: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    ACC: tl.constexpr,
    OUTSIDE: tl.constexpr,
):
    """Channel sum of one row of one image, (T, V); a row outside the image is replicated or OUTSIDE.

    row and piece are (T, 1). Columns are the caller's to replicate: clamping them would cost the 128-bit loads.
    """
    col = piece * V + tl.arange(0, V)[None, :]
    mask = piece * V < W
    if REPLICATE:
        row = tl.minimum(tl.maximum(row, 0), H - 1)
    else:
        mask = mask & (row >= 0) & (row < H)
    x_ptr += row * stride_h
    if INTERLEAVED:
        values = load_interleaved(x_ptr, piece, W, mask, C, T, V, ACC)
        sums = ()
        for j in tl.static_range(V):
            each = values[C * j]
            for channel in tl.static_range(1, C):
                each += values[C * j + channel]
            sums = sums + (each,)
        total = together(sums, T, V)
    else:
        total = tl.load(x_ptr + col * stride_w, mask=mask & (col < W), other=0.0).to(ACC)
        for channel in tl.static_range(1, C):
            total += tl.load(x_ptr + channel * stride_c + col * stride_w, mask=mask & (col < W), other=0.0).to(ACC)
    if OUTSIDE != 0.0:  # not as `other`, which would be rounded to the image's dtype
        total = tl.where(mask & (col < W), total, OUTSIDE * C)
    return total


@jit
def grey_beside(x_ptr, row, col, mask, stride_c, stride_h, stride_w, C: tl.constexpr, ACC: tl.constexpr):
    """Channel sum of one pixel of a row inside the image, where mask holds: a neighbour of the block of columns."""
    offset = row * stride_h + col * stride_w
    total = tl.load(x_ptr + offset, mask=mask, other=0.0).to(ACC)
    for channel in tl.static_range(1, C):
        total += tl.load(x_ptr + channel * stride_c + offset, mask=mask, other=0.0).to(ACC)
    return total


@jit
def neighbours(
    middle,
    left_edge,
    right_edge,
    col,
    W,
    T: tl.constexpr,
    V: tl.constexpr,
    HALO: tl.constexpr,
    REPLICATE: tl.constexpr,
    OUTSIDE: tl.constexpr,
):
    """The values left and right of every column of a row (T, V) held in registers: a shuffle a piece, not loads.

    If HALO, left_edge and right_edge (T, 1) hold, in the first and the last piece of the block, the values just outside
    it. Outside the image is the outermost value (REPLICATE) or OUTSIDE.
    """
    t = tl.arange(0, T)
    columns = apart(middle, T, V)
    before = tl.gather(columns[V - 1], tl.maximum(t - 1, 0), 0)
    after = tl.gather(columns[0], tl.minimum(t + 1, T - 1), 0)
    if HALO:
        before = tl.where(t == 0, tl.reshape(left_edge, (T,)), before)
        after = tl.where(t == T - 1, tl.reshape(right_edge, (T,)), after)
    left = (before,)
    right = ()
    for j in tl.static_range(1, V):
        left = left + (columns[j - 1],)
        right = right + (columns[j],)
    left = together(left, T, V)
    right = together(right + (after,), T, V)
    if REPLICATE:
        left = tl.where(col == 0, middle, left)
        right = tl.where(col == W - 1, middle, right)
    else:
        left = tl.where(col == 0, OUTSIDE, left)
        right = tl.where(col == W - 1, OUTSIDE, right)
    return left, right


@jit
def laplace_kernel(
    x_ptr,
    out_ptr,
    sign_ptr,
    partial_ptr,
    H,
    W,
    stride_b,
    stride_c,
    stride_h,
    stride_w,
    T: tl.constexpr,
    V: tl.constexpr,
    ROWS: tl.constexpr,
    C: tl.constexpr,
    REPLICATE: tl.constexpr,
    HALO: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    SIGNED: tl.constexpr,
    SIGN: tl.constexpr,
    PARTIAL: tl.constexpr,
    ACC: tl.constexpr,
    OUT: tl.constexpr = True,
    OUTSIDE: tl.constexpr = 0.0,
):
    """L(g) of one strip of ROWS rows and T pieces of V columns, marching down with three rows in registers.

    Writes L(g) (SIGNED) or |L(g)| (OUT), its sign (SIGN) and the strip's sum of |L(g)| (PARTIAL: (B, strips)). Outside
    the image every channel is its outermost value (REPLICATE) or OUTSIDE.
    """
    image = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, T)[:, None]
    first = tl.program_id(1) * ROWS + tl.zeros((T, 1), tl.int32)  # Triton's interpreter cannot `&` with a scalar
    piece = tl.program_id(2) * T + i
    col = piece * V + tl.arange(0, V)[None, :]
    inside = col < W
    x_ptr += image * stride_b
    plane = image * H * W
    up = grey_row(
        x_ptr, first - 1, piece, W, stride_c, stride_h, stride_w, H, C, T, V, REPLICATE, INTERLEAVED, ACC, OUTSIDE
    )
    middle = grey_row(
        x_ptr, first, piece, W, stride_c, stride_h, stride_w, H, C, T, V, REPLICATE, INTERLEAVED, ACC, OUTSIDE
    )
    total = tl.zeros((T,), ACC)
    for step in tl.static_range(ROWS):
        row = first + step
        down = grey_row(
            x_ptr, row + 1, piece, W, stride_c, stride_h, stride_w, H, C, T, V, REPLICATE, INTERLEAVED, ACC, OUTSIDE
        )
        left_edge = None
        right_edge = None
        if HALO:
            before = piece * V - 1
            after = piece * V + V
            left_edge = grey_beside(
                x_ptr, row, before, (i == 0) & (before >= 0) & (row < H), stride_c, stride_h, stride_w, C, ACC
            )
            right_edge = grey_beside(
                x_ptr, row, after, (i == T - 1) & (after < W) & (row < H), stride_c, stride_h, stride_w, C, ACC
            )
        left, right = neighbours(middle, left_edge, right_edge, col, W, T, V, HALO, REPLICATE, OUTSIDE * C)
        value = (up + down + left + right - 4.0 * middle) / C
        keep = inside & (row < H)
        offset = plane + row * W + col
        if SIGN:
            sign = (value > 0).to(tl.int8) - (value < 0).to(tl.int8)
            tl.store(sign_ptr + offset, sign, mask=keep)
        if PARTIAL:
            total += tl.sum(tl.where(keep, tl.abs(value), 0.0), 1)
        if OUT:
            out = value if SIGNED else tl.abs(value)
            tl.store(out_ptr + offset, out.to(out_ptr.dtype.element_ty), mask=keep)
        up = middle
        middle = down
    if PARTIAL:
        strip = tl.program_id(1) * tl.num_programs(2) + tl.program_id(2)
        strips = tl.num_programs(1) * tl.num_programs(2)
        tl.store(partial_ptr + image * strips + strip, tl.sum(total, 0))


@jit
def _signed_row(
    grad_ptr, sign_ptr, row, col, mask, H, W, REPLICATE: tl.constexpr, SIGN: tl.constexpr, ACC: tl.constexpr
):
    if REPLICATE:
        row = tl.minimum(tl.maximum(row, 0), H - 1)
    else:
        mask = mask & (row >= 0) & (row < H)
    value = tl.load(grad_ptr + row * W + col, mask=mask, other=0.0).to(ACC)
    if SIGN:
        value *= tl.load(sign_ptr + row * W + col, mask=mask, other=0).to(ACC)
    return value


@jit
def adjoint_kernel(
    grad_ptr,
    sign_ptr,
    scale_ptr,
    out_ptr,
    H,
    W,
    stride_b,
    stride_c,
    stride_h,
    stride_w,
    T: tl.constexpr,
    V: tl.constexpr,
    ROWS: tl.constexpr,
    C: tl.constexpr,
    REPLICATE: tl.constexpr,
    HALO: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    SIGN: tl.constexpr,
    SCALE: tl.constexpr,
    ACC: tl.constexpr,
):
    """scale * L(grad * sign) / C into every channel of out: the adjoint of L o mean. grad and sign are (B, 1, H, W)."""
    image = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, T)[:, None]
    first = tl.program_id(1) * ROWS + tl.zeros((T, 1), tl.int32)  # Triton's interpreter cannot `&` with a scalar
    piece = tl.program_id(2) * T + i
    col = piece * V + tl.arange(0, V)[None, :]
    inside = col < W
    plane = image * H * W
    grad_ptr += plane
    if SIGN:
        sign_ptr += plane
    out_ptr += image * stride_b
    up = _signed_row(grad_ptr, sign_ptr, first - 1, col, inside, H, W, REPLICATE, SIGN, ACC)
    middle = _signed_row(grad_ptr, sign_ptr, first, col, inside, H, W, REPLICATE, SIGN, ACC)
    for step in tl.static_range(ROWS):
        row = first + step
        down = _signed_row(grad_ptr, sign_ptr, row + 1, col, inside, H, W, REPLICATE, SIGN, ACC)
        left_edge = None
        right_edge = None
        if HALO:
            before = piece * V - 1
            after = piece * V + V
            left_edge = _signed_row(
                grad_ptr, sign_ptr, row, before, (i == 0) & (before >= 0), H, W, REPLICATE, SIGN, ACC
            )
            right_edge = _signed_row(
                grad_ptr, sign_ptr, row, after, (i == T - 1) & (after < W), H, W, REPLICATE, SIGN, ACC
            )
        left, right = neighbours(middle, left_edge, right_edge, col, W, T, V, HALO, REPLICATE, 0.0)
        value = (up + down + left + right - 4.0 * middle) / C
        if SCALE:
            value *= tl.load(scale_ptr).to(ACC)
        value = value.to(out_ptr.dtype.element_ty)
        if INTERLEAVED:
            columns = apart(value, T, V)
            values = ()
            for j in tl.static_range(C * V):
                values = values + (columns[j // C],)
            store_interleaved(out_ptr + row * stride_h, values, piece, W, row < H, C, T, V)
        else:
            for channel in tl.static_range(C):
                offset = channel * stride_c + row * stride_h + col * stride_w
                tl.store(out_ptr + offset, value, mask=inside & (row < H))
        up = middle
        middle = down


# ----------------------------------------------------------------- launchers
def strips(height: int, width: int) -> tuple[int, int, int, int]:
    """Block width, rows a strip, strips down and across, for a march over (height, width) by single warps.

    One warp holds up to 256 columns, so that its columns exchange values by shuffles and never meet a barrier. Eight
    rows cost 10/8 of the reads, most of them from L2; 16 would need more registers than hide the latency at batch 16.
    """
    block = min(256, max(32, triton.next_power_of_2(width)))
    rows = min(8, triton.next_power_of_2(height))
    return block, rows, triton.cdiv(height, rows), triton.cdiv(width, block)


def _march(x: Tensor) -> tuple[tuple[int, int, int], dict]:
    """Grid, and the arguments that both kernels share, for x (B, C, H, W)."""
    batch, channels, height, width = x.shape
    block, rows, down, across = strips(height, width)
    pixels = per_piece(x)
    return (batch, down, across), {
        "T": block // pixels,
        "V": pixels,
        "ROWS": rows,
        "C": channels,
        "HALO": across > 1,
        "INTERLEAVED": interleaved(x),
        "num_warps": 1,
    }


def launch_laplace(
    x: Tensor,
    border: str,
    out: Tensor | None,
    sign: Tensor | None = None,
    partial: Tensor | None = None,
    signed: bool = False,
    outside: float = 0.0,
) -> None:
    """Run `laplace_kernel` over images of any strides. partial is (B, strips down * strips across).

    outside is the value of every channel beyond a border of "zeros".
    """
    x = _op.addressable(x)
    grid, march = _march(x)
    with torch.cuda.device_of(x):
        laplace_kernel[grid](
            x,
            out,
            sign,
            partial,
            *x.shape[2:],
            *x.stride(),
            **march,
            REPLICATE=border == "replicate",
            SIGNED=signed,
            SIGN=sign is not None,
            PARTIAL=partial is not None,
            ACC=_op.accumulator(x),
            OUT=out is not None,
            OUTSIDE=outside,
        )


def launch_adjoint(grad: Tensor, sign: Tensor | None, scale: Tensor | None, border: str, out: Tensor) -> None:
    """Run `adjoint_kernel`: grad and sign (B, 1, H, W), scale a scalar tensor, out (B, C, H, W) dense."""
    grad = grad.contiguous()
    grid, march = _march(out)
    with torch.cuda.device_of(grad):
        adjoint_kernel[grid](
            grad,
            sign,
            scale,
            out,
            *out.shape[2:],
            *out.stride(),
            **march,
            REPLICATE=border == "replicate",
            SIGN=sign is not None,
            SCALE=scale is not None,
            ACC=_op.accumulator(grad, out),
        )


def _forward(x: Tensor, border: str) -> tuple[Tensor, Tensor]:
    out, sign = _forward_fake(x, border)
    if out.numel():
        launch_laplace(x, border, out, sign)
    return out, sign


def _forward_fake(x: Tensor, border: str) -> tuple[Tensor, Tensor]:
    shape = (x.shape[0], 1, *x.shape[2:])
    return x.new_empty(shape), x.new_empty(shape, dtype=torch.int8)


def _backward(grad: Tensor, sign: Tensor, border: str, channels: int, nhwc: bool) -> Tensor:
    out = _backward_fake(grad, sign, border, channels, nhwc)
    if out.numel():
        launch_adjoint(grad, sign, None, border, out)
    return out


def _backward_fake(grad: Tensor, sign: Tensor, border: str, channels: int, nhwc: bool) -> Tensor:
    return torch.empty(
        (grad.shape[0], channels, *grad.shape[2:]),
        dtype=grad.dtype,
        device=grad.device,
        memory_format=torch.channels_last if nhwc else torch.contiguous_format,
    )


forward_op = _op.register("laplace_sharpness(Tensor image, str border) -> (Tensor, Tensor)", _forward, _forward_fake)
backward_op = _op.register(
    "laplace_sharpness_backward(Tensor grad, Tensor sign, str border, int channels, bool nhwc) -> Tensor",
    _backward,
    _backward_fake,
)


class _LaplaceSharpness(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, border):
        out, sign = forward_op(image, border)
        ctx.border = border
        ctx.save_for_backward(image, sign)
        return out

    @staticmethod
    def backward(ctx, grad):
        image, sign = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradients = _op.differentiable_gradients(
                lambda x: laplace_sharpness_eager(x, ctx.border), [image], ctx.needs_input_grad[:1], grad
            )
            return *gradients, None
        return backward_op(grad, sign, ctx.border, image.shape[1], _op.is_nhwc(image)), None


# ---------------------------------------------------------------- public API
def laplace_sharpness(image: Tensor, border: str = "replicate", impl: str = "auto") -> Tensor:
    """Absolute 4-neighbour Laplacian of the channel mean, in the image's own units.

    Args:
        image: floating (B, C, H, W), any memory layout, any range.
        border: what lies outside the image: "replicate" repeats the outermost pixels, "zeros" is black (mid-grey for
            an image in [-1, 1]).
        impl: "auto", "eager" or "triton".

    Returns:
        (B, 1, H, W) in the dtype of image, >= 0.

    Raises:
        ValueError: image is not a floating (B, C, H, W) tensor, or border is neither name.

    Example:
        >>> image = torch.zeros(1, 3, 3, 3)
        >>> image[:, :, 1, 1] = 1.0
        >>> laplace_sharpness(image)[0, 0]
        tensor([[0., 1., 0.],
                [1., 4., 1.],
                [0., 1., 0.]])
    """
    check_image("laplace_sharpness", "image", image)
    check_one_of("laplace_sharpness", "border", border, BORDERS)
    if choose("laplace_sharpness", impl, image) == "eager":
        return laplace_sharpness_eager(image, border)
    return _LaplaceSharpness.apply(image, border)

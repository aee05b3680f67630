"""Instance normalisation followed by a gated linear unit: the block at every stage of the generator.

    u, v = (x - mean) / sqrt(variance + eps)   for the two halves of the channels, over each (image, channel) plane
    y = u * sigmoid(v)

Variance is biased (divided by H*W), as in `torch.nn.InstanceNorm2d`. Statistics are float32 (float64 for float64) and
never E[x^2] - E[x]^2: Welford's recurrence in each thread, then Chan's combination in a fixed order. An image's result
does not depend on the batch that it came in.

Two sweeps over x, statistics then values. Small planes: one program does both, and the second sweep finds in the caches
what the first has read; traffic for elements of e bytes is 1.5e an input element forward (read 1, write 1/2), 2.5e
backward (read x and dy, write dx). Larger planes are cut into strips: one launch a sweep, with a small table of partial
results between, 2.5e forward and 4e backward, less what L2 still holds: the second sweep runs in reverse order.

Saved: x itself, mean and 1/sqrt(variance + eps) of each plane; backward recomputes u, v and the sigmoid. Differentiable
any number of times (second derivatives through the eager definition). Source: the generators of AttnGAN and ManiGAN.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan_kernels import _native, _op
from tmgan_kernels._dispatch import check_image, choose
from tmgan_kernels._triton import jit, tl, triton

# Pixels a plane up to which one program makes both sweeps: what it reads, at most 64 KB of each half and in
# channels_last 32 bytes of every pixel, then waits for the second sweep in L1 or L2.
WHOLE_NCHW = 128 * 128
WHOLE_NHWC = 32 * 32
# Elements of each half that a warp takes in one step: 8 a thread, one or two 128-bit loads.
STEP = 256
# A strip has about this many times sqrt(H*W) pixels. Every program of the second sweep reads the table of all strips of
# its channels, 16 bytes a strip and channel (four sectors, where it has one channel only), which so stays under 1/16 of
# what it reads of a bfloat16 image.
STRIP_NCHW = 32
STRIP_NHWC = 8


# ---------------------------------------------------------------- definition
def instance_norm_glu_eager(x: Tensor, eps: float = 1e-5) -> Tensor:
    """The definition of `instance_norm_glu` in plain PyTorch."""
    # A group of one channel is a plane; on a CPU group_norm, given NCHW, is the faster of the two.
    planar = x.to(_op.wide(x)).contiguous()
    out = F.glu(F.group_norm(planar, planar.shape[1], eps=eps), dim=1).to(x.dtype)
    return out.contiguous(memory_format=torch.channels_last) if _op.is_nhwc(x) else out


# ------------------------------------------------------------------- kernels
# A program takes STRIP pixels of CB channels and of their gates, in steps of P pixels: tiles (P, CB). With MEASURE and
# APPLY it makes both sweeps; with one of them, the other is another launch and a table (B, STRIPS, 4, C) lies between.
# x_pixel and x_channel are the distances of neighbouring pixels and channels in x, y_ those in the output.
@jit
def my_share(STRIPS: tl.constexpr, BLOCKS, CB: tl.constexpr, BACKWARDS: tl.constexpr):
    """Which image, strip and channels (1, CB) are this program's; neighbours in memory run together.

    BACKWARDS: the launch begins where the one before ended, with what is still in L2.
    """
    program = tl.program_id(0)
    if BACKWARDS:
        program = tl.num_programs(0) - 1 - program
    image = (program // BLOCKS // STRIPS).to(tl.int64)
    channel = program % BLOCKS * CB + tl.arange(0, CB)[None, :]
    return image, program // BLOCKS % STRIPS, channel


@jit
def load_four(ptr, C: tl.constexpr, mask):
    return (
        tl.load(ptr, mask=mask, other=0.0),
        tl.load(ptr + C, mask=mask, other=0.0),
        tl.load(ptr + 2 * C, mask=mask, other=0.0),
        tl.load(ptr + 3 * C, mask=mask, other=0.0),
    )


@jit
def store_four(ptr, C: tl.constexpr, mask, first, second, third, fourth):
    tl.store(ptr, first, mask=mask)
    tl.store(ptr + C, second, mask=mask)
    tl.store(ptr + 2 * C, third, mask=mask)
    tl.store(ptr + 3 * C, fourth, mask=mask)


@jit
def combine(count, mean, m2, shift, total):
    """Chan's combination of rows of (count, mean, sum of squared deviations) into one: (ROWS, CB) -> (1, CB).

    shift is any value of the plane: taking it off the means first makes the mean of a constant plane exact.
    """
    centre = shift + tl.sum(count * (mean - shift), 0)[None, :] / total
    away = mean - centre
    return centre, tl.sum(m2 + count * away * away, 0)[None, :]


@jit
def forward_kernel(
    x_ptr,
    out_ptr,
    mean_ptr,
    rstd_ptr,
    table_ptr,
    HW,
    x_channel,
    y_channel,
    STRIP,
    BLOCKS,
    C: tl.constexpr,
    x_pixel: tl.constexpr,
    y_pixel: tl.constexpr,
    STRIPS: tl.constexpr,
    ROWS: tl.constexpr,
    STEPS: tl.constexpr,
    P: tl.constexpr,
    CB: tl.constexpr,
    EPS: tl.constexpr,
    MEASURE: tl.constexpr,
    APPLY: tl.constexpr,
    ACC: tl.constexpr,
):
    """Sweep 1: mean and sum of squared deviations. Sweep 2: out = u * sigmoid(v), and mean and rstd (B, 2C)."""
    image, strip, channel = my_share(STRIPS, BLOCKS, CB, not MEASURE)
    real = channel < C
    first = strip * STRIP
    pixels = tl.minimum(STRIP, HW - first)
    row = tl.arange(0, P)[:, None]
    a_ptr = x_ptr + image * (2 * C * HW)
    b_ptr = a_ptr + C * x_channel
    if MEASURE:
        mean_a = tl.zeros((P, CB), ACC)
        m2_a, mean_b, m2_b = mean_a, mean_a, mean_a
        for step in range(STEPS):  # Welford's recurrence in every element of the tile
            pixel = step * P + row
            valid = (pixel < pixels) & real
            offset = (first + pixel) * x_pixel + channel * x_channel
            weight = 1 / tl.cast(step + 1, ACC)
            # One half after the other: interleaved, they take up to 74 registers where 64 are to be had, and spill.
            a = tl.load(a_ptr + offset, mask=valid, other=0.0).to(ACC)
            away_a = tl.where(valid, a - mean_a, 0.0)
            mean_a += away_a * weight
            m2_a += away_a * (a - mean_a)
            b = tl.load(b_ptr + offset, mask=valid, other=0.0).to(ACC)
            away_b = tl.where(valid, b - mean_b, 0.0)
            mean_b += away_b * weight
            m2_b += away_b * (b - mean_b)
        count = (tl.maximum(pixels - row + P - 1, 0) // P).to(ACC)
        corner = first * x_pixel + channel * x_channel
        mean_a, m2_a = combine(count, mean_a, m2_a, tl.load(a_ptr + corner, mask=real, other=0.0).to(ACC), pixels)
        mean_b, m2_b = combine(count, mean_b, m2_b, tl.load(b_ptr + corner, mask=real, other=0.0).to(ACC), pixels)
        if not APPLY:
            store_four(table_ptr + (image * STRIPS + strip) * (4 * C) + channel, C, real, mean_a, m2_a, mean_b, m2_b)
    else:
        table_ptr += image * (STRIPS * 4 * C) + channel
        line = tl.arange(0, ROWS)[:, None]
        means_a, m2s_a, means_b, m2s_b = load_four(table_ptr + line * (4 * C), C, (line < STRIPS) & real)
        count = tl.minimum(tl.maximum(HW - line * STRIP, 0), STRIP).to(ACC)
        mean_a, m2_a = combine(count, means_a, m2s_a, tl.load(table_ptr, mask=real, other=0.0), HW)
        mean_b, m2_b = combine(count, means_b, m2s_b, tl.load(table_ptr + 2 * C, mask=real, other=0.0), HW)
    if APPLY:
        rstd_a = tl.rsqrt(m2_a / HW + EPS)
        rstd_b = tl.rsqrt(m2_b / HW + EPS)
        if strip == 0:
            plane = image * (2 * C) + channel
            tl.store(mean_ptr + plane, mean_a, mask=real)
            tl.store(mean_ptr + plane + C, mean_b, mask=real)
            tl.store(rstd_ptr + plane, rstd_a, mask=real)
            tl.store(rstd_ptr + plane + C, rstd_b, mask=real)
        out_ptr += image * (C * HW)
        for step in range(STEPS):
            pixel = (STEPS - 1 - step) * P + row
            valid = (pixel < pixels) & real
            offset = (first + pixel) * x_pixel + channel * x_channel
            a = tl.load(a_ptr + offset, mask=valid, other=0.0).to(ACC)
            b = tl.load(b_ptr + offset, mask=valid, other=0.0).to(ACC)
            out = (a - mean_a) * rstd_a * tl.sigmoid((b - mean_b) * rstd_b)
            offset = (first + pixel) * y_pixel + channel * y_channel
            tl.store(out_ptr + offset, out.to(out_ptr.dtype.element_ty), mask=valid)


@jit
def reaching(grad, a, b, mean_a, rstd_a, mean_b, rstd_b):
    """u, v and the gradients that reach them."""
    u = (a - mean_a) * rstd_a
    v = (b - mean_b) * rstd_b
    gate = tl.sigmoid(v)
    du = grad * gate
    return u, v, du, du * u * (1 - gate)


@jit
def backward_kernel(
    grad_ptr,
    x_ptr,
    mean_ptr,
    rstd_ptr,
    dx_ptr,
    table_ptr,
    HW,
    x_channel,
    y_channel,
    STRIP,
    BLOCKS,
    C: tl.constexpr,
    x_pixel: tl.constexpr,
    y_pixel: tl.constexpr,
    STRIPS: tl.constexpr,
    ROWS: tl.constexpr,
    STEPS: tl.constexpr,
    P: tl.constexpr,
    CB: tl.constexpr,
    MEASURE: tl.constexpr,
    APPLY: tl.constexpr,
    ACC: tl.constexpr,
):
    """Sweep 1: sums of du, du * u, dv, dv * v. Sweep 2: dx = rstd * (du - mean(du) - u * mean(du * u)); v likewise."""
    image, strip, channel = my_share(STRIPS, BLOCKS, CB, not MEASURE)
    real = channel < C
    first = strip * STRIP
    pixels = tl.minimum(STRIP, HW - first)
    row = tl.arange(0, P)[:, None]
    a_ptr = x_ptr + image * (2 * C * HW)
    b_ptr = a_ptr + C * x_channel
    grad_ptr += image * (C * HW)
    plane = image * (2 * C) + channel
    mean_a = tl.load(mean_ptr + plane, mask=real, other=0.0)
    mean_b = tl.load(mean_ptr + plane + C, mask=real, other=0.0)
    rstd_a = tl.load(rstd_ptr + plane, mask=real, other=0.0)
    rstd_b = tl.load(rstd_ptr + plane + C, mask=real, other=0.0)
    if MEASURE:
        sum_du = tl.zeros((P, CB), ACC)
        sum_duu, sum_dv, sum_dvv = sum_du, sum_du, sum_du
        for step in range(STEPS):
            pixel = step * P + row
            valid = (pixel < pixels) & real
            offset = (first + pixel) * x_pixel + channel * x_channel
            a = tl.load(a_ptr + offset, mask=valid, other=0.0).to(ACC)
            b = tl.load(b_ptr + offset, mask=valid, other=0.0).to(ACC)
            offset = (first + pixel) * y_pixel + channel * y_channel
            grad = tl.load(grad_ptr + offset, mask=valid, other=0.0).to(ACC)  # 0 where masked, which adds nothing
            u, v, du, dv = reaching(grad, a, b, mean_a, rstd_a, mean_b, rstd_b)
            sum_du += du
            sum_duu += du * u
            sum_dv += dv
            sum_dvv += dv * v
        if not APPLY:
            table_ptr += (image * STRIPS + strip) * (4 * C) + channel
    else:
        line = tl.arange(0, ROWS)[:, None]
        table_ptr += image * (STRIPS * 4 * C) + channel
        sum_du, sum_duu, sum_dv, sum_dvv = load_four(table_ptr + line * (4 * C), C, (line < STRIPS) & real)
    sum_du = tl.sum(sum_du, 0)[None, :]
    sum_duu = tl.sum(sum_duu, 0)[None, :]
    sum_dv = tl.sum(sum_dv, 0)[None, :]
    sum_dvv = tl.sum(sum_dvv, 0)[None, :]
    if not APPLY:
        store_four(table_ptr, C, real, sum_du, sum_duu, sum_dv, sum_dvv)
    else:
        da_ptr = dx_ptr + image * (2 * C * HW)
        db_ptr = da_ptr + C * x_channel
        for step in range(STEPS):
            pixel = (STEPS - 1 - step) * P + row
            valid = (pixel < pixels) & real
            offset = (first + pixel) * x_pixel + channel * x_channel
            a = tl.load(a_ptr + offset, mask=valid, other=0.0).to(ACC)
            b = tl.load(b_ptr + offset, mask=valid, other=0.0).to(ACC)
            grad_offset = (first + pixel) * y_pixel + channel * y_channel
            grad = tl.load(grad_ptr + grad_offset, mask=valid, other=0.0).to(ACC)
            u, v, du, dv = reaching(grad, a, b, mean_a, rstd_a, mean_b, rstd_b)
            da = rstd_a * (du - sum_du / HW - u * (sum_duu / HW))
            db = rstd_b * (dv - sum_dv / HW - v * (sum_dvv / HW))
            tl.store(da_ptr + offset, da.to(dx_ptr.dtype.element_ty), mask=valid)
            tl.store(db_ptr + offset, db.to(dx_ptr.dtype.element_ty), mask=valid)


# ----------------------------------------------------------------- launchers
def plan(x: Tensor) -> tuple[int, dict]:
    """Programs an image, and how they share out its pixels and channels: the arguments that both kernels have.

    From the shape of an image alone, so that no image's result depends on its batch.
    """
    channels, pixels, nhwc = x.shape[1] // 2, x.shape[2] * x.shape[3], _op.is_nhwc(x)
    whole = pixels <= (WHOLE_NHWC if nhwc else WHOLE_NCHW)
    # Registers leave room for 16 to 32 warps in an SM. Where a half-plane fills more than 32 KB, fewer and larger
    # programs share them, so that the planes under way fit L2.
    warps = 16 if whole and not nhwc and pixels * x.element_size() > 2**15 else 8
    if nhwc:
        # Channels lie together: a whole 32-byte sector of them, two where strips make programs enough.
        tile_channels = min((32 if whole else 64) // x.element_size(), triton.next_power_of_2(channels))
        tile_pixels = min(max(1, warps * STEP // tile_channels), triton.next_power_of_2(pixels))
    else:
        tile_pixels = min(warps * STEP, triton.next_power_of_2(pixels))
        tile_channels = min(warps * STEP // tile_pixels, triton.next_power_of_2(channels))
    strip = triton.next_power_of_2(int((STRIP_NHWC if nhwc else STRIP_NCHW) * pixels**0.5))
    strip = pixels if whole else max(strip, tile_pixels)
    strips, blocks = triton.cdiv(pixels, strip), triton.cdiv(channels, tile_channels)
    return strips * blocks, dict(
        HW=pixels,
        C=channels,
        x_pixel=2 * channels if nhwc else 1,
        x_channel=1 if nhwc else pixels,
        y_pixel=channels if nhwc else 1,
        y_channel=1 if nhwc else pixels,
        STRIP=strip,
        STRIPS=strips,
        BLOCKS=blocks,
        ROWS=triton.next_power_of_2(strips),
        STEPS=triton.cdiv(strip, tile_pixels),
        P=tile_pixels,
        CB=tile_channels,
        ACC=_op.accumulator(x),
        num_warps=warps,
    )


def _launch(kernel, x: Tensor, *arguments: Tensor, **options) -> None:
    """Both sweeps of `kernel` over x: in one launch, or in two with a table between."""
    programs, shares = plan(x)
    grid, options = (x.shape[0] * programs,), shares | options
    with torch.cuda.device_of(x):
        if shares["STRIPS"] == 1:
            kernel[grid](*arguments, None, MEASURE=True, APPLY=True, **options)
            return
        table = x.new_empty((x.shape[0], shares["STRIPS"], 4, shares["C"]), dtype=_op.wide(x))
        kernel[grid](*arguments, table, MEASURE=True, APPLY=False, **options)
        kernel[grid](*arguments, table, MEASURE=False, APPLY=True, **options)


def _launch_cuda(function: str, x: Tensor, *arguments: Tensor | float, backward: bool) -> None:
    """A function of the CUDA C++ kernels, which takes tensors, a workspace, numbers, then the shape and place of x."""
    batch, channels, height, width = x.shape
    dtype, device, stream = _native.place(x)
    nhwc, sm = _op.is_nhwc(x), _native.capability(x.device)
    shape = batch, channels // 2, height, width, nhwc, dtype
    space = _native.workspace("tmgan_norm_glu", x, *shape, sm, backward)
    tensors = [a.data_ptr() for a in arguments if isinstance(a, Tensor)]
    _native.call(
        function,
        *tensors,
        space.data_ptr(),
        *(a for a in arguments if isinstance(a, float)),
        *shape,
        device,
        sm,
        stream,
    )


def _forward(x: Tensor, eps: float, cuda: bool) -> tuple[Tensor, Tensor, Tensor]:
    out, mean, rstd = _forward_fake(x, eps, cuda)
    if out.numel() and cuda:
        x = _native.aligned(_op.dense(x))
        _launch_cuda("tmgan_norm_glu", x, x, out, mean, rstd, eps, backward=False)
    elif out.numel():
        x = _op.dense(x)
        _launch(forward_kernel, x, x, out, mean, rstd, EPS=eps)
    return out, mean, rstd


def _forward_fake(x: Tensor, eps: float, cuda: bool) -> tuple[Tensor, Tensor, Tensor]:
    out = _op.empty_like(x, x.shape[1] // 2)
    mean, rstd = (x.new_empty(x.shape[:2], dtype=_op.wide(x)) for _ in range(2))
    return out, mean, rstd


def _backward(grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, cuda: bool) -> Tensor:
    dx = _backward_fake(grad, x, mean, rstd, cuda)
    if not dx.numel():
        return dx
    x = _op.dense(x)
    grad = grad.contiguous(memory_format=torch.channels_last if _op.is_nhwc(x) else torch.contiguous_format)
    if cuda:
        x, grad = _native.aligned(x), _native.aligned(grad)
        _launch_cuda("tmgan_norm_glu_backward", x, grad, x, mean, rstd, dx, backward=True)
    else:
        _launch(backward_kernel, x, grad, x, mean, rstd, dx)
    return dx


def _backward_fake(grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, cuda: bool) -> Tensor:
    return _op.empty_like(x)


forward_op = _op.register(
    "instance_norm_glu(Tensor x, float eps, bool cuda) -> (Tensor, Tensor, Tensor)", _forward, _forward_fake
)
backward_op = _op.register(
    "instance_norm_glu_backward(Tensor grad, Tensor x, Tensor mean, Tensor rstd, bool cuda) -> Tensor",
    _backward,
    _backward_fake,
)


class _InstanceNormGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, eps, cuda):
        out, mean, rstd = forward_op(x, eps, cuda)
        ctx.eps, ctx.cuda = eps, cuda
        ctx.save_for_backward(x, mean, rstd)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, mean, rstd = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradients = _op.differentiable_gradients(
                lambda x: instance_norm_glu_eager(x, ctx.eps), [x], ctx.needs_input_grad[:1], grad
            )
            return *gradients, None, None
        return backward_op(grad, x, mean, rstd, ctx.cuda), None, None


# ---------------------------------------------------------------- public API
def instance_norm_glu(x: Tensor, eps: float = 1e-5, impl: str = "auto") -> Tensor:
    """Normalise each (image, channel) plane, then gate the first half of the channels by the second.

    Fastest in channels_last or contiguous layout, with the incoming gradient in the layout of x; other strides are
    copied first (of x and the gradient, only the gradient where their layouts differ).

    Args:
        x: floating (B, 2C, H, W), any memory layout, any range, with more than one pixel a plane.
        eps: added to the variance, in squared units of x.
        impl: "auto", "eager", "triton" or "cuda".

    Returns:
        (B, C, H, W) in the dtype and memory format of x.

    Raises:
        ValueError: x is not a floating (B, 2C, H, W) tensor, or its planes have a single pixel.

    Example:
        >>> x = torch.tensor([[-1.0, 1.0], [1.0, 1.0]]).view(1, 2, 1, 2)
        >>> instance_norm_glu(x)
        tensor([[[[-0.5000,  0.5000]]]])
    """
    check_image("instance_norm_glu", "x", x)
    if x.shape[1] % 2:
        raise ValueError(f"instance_norm_glu: x must be (B, 2C, H, W) with an even channel count, got {tuple(x.shape)}")
    if x.shape[2] * x.shape[3] == 1:
        raise ValueError(f"instance_norm_glu: a plane of one pixel has no variance; x is {tuple(x.shape)}")
    chosen = choose("instance_norm_glu", impl, x)
    if chosen == "eager":
        return instance_norm_glu_eager(x, eps)
    return _InstanceNormGLU.apply(x, float(eps), chosen == "cuda")

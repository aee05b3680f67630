"""Naive sharpness loss: sharp regions should be sharper still, blurred regions smoother.

    s = |Laplacian of the channel mean|, replicate border        label = 1 in the image's sharp regions, or given
    z = max(gamma s, 1e-6)                                        t = tanh z
    loss = mean of  -label log t - (1 - label) log(1 - t)         over all pixels,   or
    loss = sum of (-label log t) / sum of the labels              ("sharp", as published)

In log space, u = exp(-2z): -log t = log1p(u) - log(-expm1(-2z)) and -log(1 - t) = 2z + log1p(u) - log 2. So a pixel
with label 1 costs at most 13.9, where z is at the floor, and one with label 0 about 2z; the gradient with respect to s
is at most gamma / 1e-6, and 0 below the floor.

Traffic for three channels of e bytes: forward reads 3e bytes a pixel, writes a float32 plane (4), reads it six times
(24, from L2 as long as the batch fits there: 64 planes of 256 x 256 are 17 MB), reads the labels if given, which saves
five of these times, and writes e; backward reads e and writes 3e. Four launches forward (nine for images of more than
256 x 256 pixels: see `sharp_regions`), two backward.
Saved: the gradient of every pixel's loss with respect to its Laplacian, one plane in the image's dtype. Differentiable
any number of times (second derivatives through the eager definition); labels are constants.
Source: equation 2 of the paper and its `sharpness_loss`.
"""

import math

import torch
from torch import Tensor

from tmgan_kernels import _native, _op
from tmgan_kernels._dispatch import check_image, check_one_of, check_plane, choose
from tmgan_kernels._stream import my_block
from tmgan_kernels._triton import jit, tl, triton
from tmgan_kernels.laplace_sharpness import laplacian_eager, launch_adjoint, launch_laplace, strips
from tmgan_kernels.sharp_regions import load_chunk, sharp_regions_eager, two_means

REGIONS = ("all", "sharp")
FLOOR = 1e-6  # of z
STEPS = 5  # of 2-means
UNIT = 16  # gamma * UNIT is what the saved gradient is measured in: float16 then holds its largest value, 1e6 gamma
# 4096 pixels a program, but 1024 at a time: at some 85 instructions a pixel arithmetic is the limit, and 64
# registers a thread leave room for 32 warps a multiprocessor.
BLOCK, PARTS = 1024, 4


# ---------------------------------------------------------------- definition
def naive_sharpness_loss_eager(
    image: Tensor, gamma: float = 0.1, labels: Tensor | None = None, region: str = "all"
) -> Tensor:
    """The definition of `naive_sharpness_loss` in plain PyTorch."""
    sharpness = laplacian_eager(image).abs()
    if labels is None:
        labels, _ = sharp_regions_eager(sharpness, STEPS)
    labels = labels.detach().to(sharpness.dtype)
    z = (gamma * sharpness).clamp(min=FLOOR)
    softplus = torch.log1p(torch.exp(-2 * z))
    if_sharp = softplus - torch.log(-torch.expm1(-2 * z))
    if region == "all":
        if_blurred = 2 * z + softplus - math.log(2)
        return (labels * if_sharp + (1 - labels) * if_blurred).mean()
    number = labels.sum()
    return (labels * if_sharp).sum() / number.where(number > 0, 1)


# ------------------------------------------------------------------- kernels
@jit
def pixel_loss(z, sharp, ACC: tl.constexpr):
    """-log t where sharp, else -log(1 - t), for 1e-6 <= z, and half its derivative by z: accurate to the last places.

    With u = exp(-2z): t = (1 - u) / (1 + u), so the loss is log1p(x) for x = u / ((1 - u) / 2) where sharp, else for
    its reciprocal; the derivative is -x (1 + t), else 1 + t, and 1 + t = 2 / (1 + u). Below z = 1/2 subtraction would
    lose digits of (1 - u) / 2, which then is exp(-z) sinh z with the series of sinh. Beyond z = 40 u would vanish.
    """
    v = tl.exp(-tl.minimum(z, 40.0, propagate_nan=tl.PropagateNan.ALL))
    u = v * v
    square = z * z
    series = 1 + square * (1.0 / 42)
    if tl.float64 == ACC:
        series = 1 + square * (1.0 / 42) * (
            1
            + square * (1.0 / 72) * (1 + square * (1.0 / 110) * (1 + square * (1.0 / 156) * (1 + square * (1.0 / 210))))
        )
    sinh = z * (1 + square * (1.0 / 6) * (1 + square * (1.0 / 20) * series))
    rest = tl.where(z < 0.5, v * sinh, 0.5 - 0.5 * u)
    under = tl.where(sharp, rest, u)
    inverse = 1 / (under * (1 + u))  # one division for x and the derivative
    x = tl.where(sharp, u, rest) * (1 + u) * inverse
    rise = under * inverse
    w = 1 + x  # (1 + u) / (2 under)
    loss = tl.log(w) + (x - (w - 1)) * 2 * under * rise  # w - 1 is what of x arrived in w: log1p to first order
    loss = tl.where(sharp | (z <= 20), loss, 2 * z - 0.6931471805599453)
    return loss, tl.where(sharp, -x * rise, rise)


@jit
def loss_kernel(
    plane_ptr,
    threshold_ptr,
    label_ptr,
    local_ptr,
    partial_ptr,
    pixels,
    LABELS: tl.constexpr,
    HARD: tl.constexpr,
    SHARP: tl.constexpr,
    GAMMA: tl.constexpr,
    FLOOR: tl.constexpr,
    UNIT: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    """Losses of PARTS * BLOCK values of the signed Laplacian, and their derivative by that in units of GAMMA * UNIT.

    partial is (2, programs): the sum of the losses, and of the labels if SHARP. HARD labels are 0 or 1.
    """
    image, block = my_block(pixels, PARTS * BLOCK)
    if not LABELS:
        threshold = tl.load(threshold_ptr + image)
    total = tl.zeros((BLOCK,), ACC)
    number = tl.zeros((BLOCK,), ACC)
    for part in range(PARTS):
        value, i, inside = load_chunk(plane_ptr, image, block * PARTS + part, pixels, False, BLOCK, ACC)
        sharpness = tl.abs(value)
        if LABELS:
            label = tl.load(label_ptr + image * pixels + i, mask=inside, other=0).to(ACC)
        else:
            label = (sharpness > threshold).to(ACC)
        z = sharpness * GAMMA
        flat = z < FLOOR
        z = tl.where(flat, FLOOR, z)  # not a maximum, which would turn NaN into a number
        if HARD and not SHARP:
            loss, slope = pixel_loss(z, label > 0, ACC)
        else:
            every = tl.full((BLOCK,), 1, tl.int1)
            loss, slope = pixel_loss(z, every, ACC)
            loss *= label
            slope *= label
            if not SHARP:
                blurred_loss, blurred_slope = pixel_loss(z, ~every, ACC)
                loss += (1 - label) * blurred_loss
                slope += (1 - label) * blurred_slope
        slope = tl.where(flat, 0.0, tl.where(value < 0, -slope, slope)) * (2.0 / UNIT)
        tl.store(local_ptr + image * pixels + i, slope.to(local_ptr.dtype.element_ty), mask=inside)
        total += tl.where(inside, loss, 0.0)
        if SHARP:
            number += tl.where(inside, label, 0.0)
    partial_ptr += tl.program_id(0)
    tl.store(partial_ptr, tl.sum(total, 0))
    if SHARP:
        tl.store(partial_ptr + tl.num_programs(0), tl.sum(number, 0))


@jit(do_not_specialize=["programs", "pixels"])  # they depend on the batch
def finish_kernel(
    partial_ptr,
    loss_ptr,
    scale_ptr,
    programs,
    pixels,
    SHARP: tl.constexpr,
    GAMMA: tl.constexpr,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program: the mean, and the factor that turns the saved plane into the gradient of the mean."""
    i = tl.arange(0, BLOCK).to(tl.int64)
    loss = tl.zeros((BLOCK,), tl.float64)
    number = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, programs, BLOCK):
        mask = start + i < programs
        loss += tl.load(partial_ptr + start + i, mask=mask, other=0.0).to(tl.float64)
        if SHARP:
            number += tl.load(partial_ptr + programs + start + i, mask=mask, other=0.0).to(tl.float64)
    divisor = tl.sum(number, 0)
    if not SHARP:
        divisor += pixels
    divisor = tl.where(divisor > 0, divisor, 1.0)
    tl.store(loss_ptr, (tl.sum(loss, 0) / divisor).to(loss_ptr.dtype.element_ty))
    tl.store(scale_ptr, (GAMMA * UNIT / divisor).to(scale_ptr.dtype.element_ty))


# ----------------------------------------------------------------- launchers
def _launch_cuda(
    image: Tensor, labels: Tensor | None, gamma: float, sharp: bool, loss: Tensor, local: Tensor, scale: Tensor
) -> None:
    """The forward pass by the CUDA C++ kernels."""
    image = _op.dense(image)
    if labels is not None:
        labels = (labels if labels.dtype == torch.bool else labels.float()).contiguous()
    batch, _, height, width = image.shape
    sm = _native.capability(image.device)
    space = _native.workspace("tmgan_sharpness_loss", image, batch, height, width, sm)
    dtype, device, stream = _native.place(image)
    _native.call(
        "tmgan_sharpness_loss",
        image.data_ptr(),
        None if labels is None else labels.data_ptr(),
        labels is not None and labels.dtype != torch.bool,
        local.data_ptr(),
        loss.data_ptr(),
        scale.data_ptr(),
        space.data_ptr(),
        gamma,
        sharp,
        *image.shape,
        _op.is_nhwc(image),
        dtype,
        device,
        sm,
        stream,
    )


def _forward(
    image: Tensor, labels: Tensor | None, gamma: float, sharp: bool, cuda: bool
) -> tuple[Tensor, Tensor, Tensor]:
    loss, local, scale = _forward_fake(image, labels, gamma, sharp, cuda)
    if not local.numel():
        return loss.fill_(0.0 if sharp else math.nan), local, scale.zero_()
    if cuda:
        _launch_cuda(image, labels, gamma, sharp, loss, local, scale)
        return loss, local, scale
    batch, _, height, width = image.shape
    pixels = height * width
    plane = loss.new_empty(local.shape)
    threshold = None
    if labels is None:
        _, _, down, across = strips(height, width)
        sums = loss.new_empty((batch, down * across))
        launch_laplace(image, "replicate", plane, partial=sums, signed=True)
        threshold = two_means(plane, sums, STEPS)
    else:
        labels = labels.contiguous()
        launch_laplace(image, "replicate", plane, signed=True)
    block = min(BLOCK, triton.next_power_of_2(pixels))
    parts = min(PARTS, triton.cdiv(pixels, block))
    programs = batch * triton.cdiv(pixels, block * parts)
    partial = loss.new_empty((2, programs))
    constants = {"SHARP": sharp, "GAMMA": gamma, "UNIT": UNIT}
    with torch.cuda.device_of(image):
        loss_kernel[(programs,)](
            plane,
            threshold,
            labels,
            local,
            partial,
            pixels,
            LABELS=labels is not None,
            HARD=labels is None or not labels.is_floating_point(),
            FLOOR=FLOOR,
            **constants,
            PARTS=parts,
            BLOCK=block,
            ACC=_op.accumulator(image),
            num_warps=4,
        )
        finish_kernel[(1,)](partial, loss, scale, programs, batch * pixels, **constants, BLOCK=1024, num_warps=4)
    return loss, local, scale


def _forward_fake(
    image: Tensor, labels: Tensor | None, gamma: float, sharp: bool, cuda: bool
) -> tuple[Tensor, Tensor, Tensor]:
    wide = _op.wide(image)
    return (
        image.new_empty((), dtype=wide),
        image.new_empty((image.shape[0], 1, *image.shape[2:])),
        image.new_empty((), dtype=wide),
    )


def _backward(grad: Tensor, local: Tensor, scale: Tensor, channels: int, nhwc: bool, cuda: bool) -> Tensor:
    out = _backward_fake(grad, local, scale, channels, nhwc, cuda)
    if out.numel() and cuda:
        _native.call(
            "tmgan_sharpness_loss_backward",
            grad.data_ptr(),
            scale.data_ptr(),
            local.data_ptr(),
            out.data_ptr(),
            *out.shape,
            nhwc,
            *_native.place(out),
        )
    elif out.numel():
        launch_adjoint(local, None, grad * scale, "replicate", out)
    return out


def _backward_fake(grad: Tensor, local: Tensor, scale: Tensor, channels: int, nhwc: bool, cuda: bool) -> Tensor:
    return torch.empty(
        (local.shape[0], channels, *local.shape[2:]),
        dtype=local.dtype,
        device=local.device,
        memory_format=torch.channels_last if nhwc else torch.contiguous_format,
    )


forward_op = _op.register(
    "naive_sharpness_loss(Tensor image, Tensor? labels, float gamma, bool sharp, bool cuda) -> "
    "(Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
backward_op = _op.register(
    "naive_sharpness_loss_backward(Tensor grad, Tensor local, Tensor scale, int channels, bool nhwc, bool cuda) -> "
    "Tensor",
    _backward,
    _backward_fake,
)


class _NaiveSharpnessLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, labels, gamma, region, cuda):
        loss, local, scale = forward_op(image, labels, gamma, region == "sharp", cuda)
        ctx.gamma, ctx.region, ctx.cuda = gamma, region, cuda
        ctx.save_for_backward(image, labels, local, scale)
        return loss

    @staticmethod
    def backward(ctx, grad):
        image, labels, local, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradients = _op.differentiable_gradients(
                lambda x: naive_sharpness_loss_eager(x, ctx.gamma, labels, ctx.region),
                [image],
                ctx.needs_input_grad[:1],
                grad,
            )
            return *gradients, None, None, None, None
        gradient = backward_op(grad, local, scale, image.shape[1], _op.is_nhwc(image), ctx.cuda)
        return gradient, None, None, None, None


# ---------------------------------------------------------------- public API
def naive_sharpness_loss(
    image: Tensor, gamma: float = 0.1, labels: Tensor | None = None, region: str = "all", impl: str = "auto"
) -> Tensor:
    """Binary cross-entropy between a mask of sharp regions and tanh(gamma * sharpness), in log space.

    Equals `F.binary_cross_entropy(tanh(gamma * laplace_sharpness(image)), labels)` where that is well conditioned, and
    stays finite, with a finite gradient, where a label is 1 and the image is flat.

    Args:
        image: floating (B, C, H, W), any memory layout, in [-1, 1].
        gamma: steepness, > 0; the paper's text has 0.1, its code 1.
        labels: (B, 1, H, W) of any dtype, 1 where the image should be sharp and 0 where smooth; values between are
            weights. None: the image's own sharp regions, as of `sharp_regions(laplace_sharpness(image.float()))`.
            Constant in the gradient.
        region: "all" is the mean over all pixels; "sharp" is the mean of -log tanh over the pixels with label 1 of the
            whole batch, weighted by the labels where these are soft, and 0 where no label is above 0 (as published).
        impl: "auto", "eager", "triton" or "cuda".

    Returns:
        scalar, float32 (float64 for float64).

    Raises:
        ValueError: image or labels have another shape, gamma is not above 0, or region is neither name.

    Example:
        >>> image = torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]])
        >>> round(naive_sharpness_loss(image, gamma=1.0).item(), 4)
        0.1362
        >>> round(naive_sharpness_loss(image, gamma=1.0, labels=torch.ones_like(image)).item(), 4)
        7.0439
    """
    check_image("naive_sharpness_loss", "image", image)
    check_one_of("naive_sharpness_loss", "region", region, REGIONS)
    if not 0 < gamma < math.inf:
        raise ValueError(f"naive_sharpness_loss: gamma must be a finite number above 0, got {gamma!r}")
    inputs = [image]
    if labels is not None:
        check_plane("naive_sharpness_loss", "labels", labels, image)
        labels = labels.detach()
        inputs.append(labels)
    chosen = choose("naive_sharpness_loss", impl, *inputs)
    if chosen == "eager":
        return naive_sharpness_loss_eager(image, gamma, labels, region)
    return _NaiveSharpnessLoss.apply(image, labels, float(gamma), region, chosen == "cuda")

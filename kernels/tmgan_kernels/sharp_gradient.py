"""The paper's gradient manipulator: identity whose gradient is larger where the image is sharp.

    forward: image itself
    backward: grad * gain,   gain = k on the sharp regions of the image and 1 elsewhere          (mode "regions")
                             gain = 1 + tanh(sharpness)                                          (mode "smooth")

sharpness = |L(g)| of the channel mean g with a replicate border, in float32 (see `laplace_sharpness`); the sharp
regions are those of `sharp_regions`, five steps.

Traffic for three channels of e bytes: forward none, the output is a view of the input. Backward reads 3e + 3e and
writes 3e bytes a pixel, and passes the sharpness in float32 from kernel to kernel: 4 written and 4 read ("smooth", two
launches) or 6 x 4 read ("regions", three launches up to 256 x 256 pixels), from L2 as long as the batch fits there (17
MB for 64 images of 256 x 256). One kernel for "smooth" would save those 8 bytes and a launch. Saved: the image.

The gain depends on the image but is a constant in every derivative: gradients of gradients are those of the
multiplication. Source: figure 3 of the paper (k = 1.5); "smooth" is the published code's `GradientManipulator`.
"""

import torch
from torch import Tensor

from tmgan_kernels import _op
from tmgan_kernels._dispatch import check_image, check_one_of, choose
from tmgan_kernels._pieces import apart, interleaved, load_interleaved, per_piece, store_interleaved
from tmgan_kernels._stream import elements, my_block, walks
from tmgan_kernels._triton import jit, tl, triton
from tmgan_kernels.laplace_sharpness import laplacian_eager, launch_laplace, strips
from tmgan_kernels.scale_gradient import scaled_eager
from tmgan_kernels.sharp_regions import sharp_regions_eager, two_means

MODES = ("regions", "smooth")
STEPS = 5  # of the 2-means, as published


# ---------------------------------------------------------------- definition
def gain_eager(image: Tensor, k: float, mode: str) -> Tensor:
    """The gain (B, 1, H, W) in plain PyTorch, in float32 or better."""
    sharpness = laplacian_eager(image.detach(), "replicate").abs()
    if mode == "smooth":
        return 1.0 + sharpness.tanh()
    mask, _ = sharp_regions_eager(sharpness, STEPS)
    return torch.ones_like(sharpness).masked_fill(mask, k)


def sharp_gradient_eager(image: Tensor, k: float = 1.5, mode: str = "regions") -> Tensor:
    """The definition of `sharp_gradient` in plain PyTorch."""
    return _SharpGradient.apply(image, k, mode, True)


# ------------------------------------------------------------------- kernels
@jit
def _gain(
    sharpness_ptr, threshold_ptr, image, pixels, pixel, mask, REGIONS: tl.constexpr, K: tl.constexpr, ACC: tl.constexpr
):
    """The gain of pixels of one image."""
    sharpness = tl.load(sharpness_ptr + image * pixels + pixel, mask=mask, other=0.0).to(ACC)
    if REGIONS:
        one = tl.full(sharpness.shape, 1, ACC)  # the choice between two Python floats would be a float32
        gain = tl.where(sharpness > tl.load(threshold_ptr + image).to(ACC), one * K, one)
    else:
        gain = 2 * tl.sigmoid(2 * sharpness)  # = 1 + tanh(sharpness)
    return gain


@jit
def _walk_kernel(
    grad_ptr,
    sharpness_ptr,
    threshold_ptr,
    out_ptr,
    count,
    PLANES: tl.constexpr,
    STEP: tl.constexpr,
    BLOCK: tl.constexpr,
    REGIONS: tl.constexpr,
    K: tl.constexpr,
    ACC: tl.constexpr,
):
    """The gradient times the gain, value by value."""
    base, image, element, pixel, inside = elements(count, PLANES, STEP, BLOCK)
    grad = tl.load(grad_ptr + base + element, mask=inside, other=0.0).to(ACC)
    out = grad * _gain(sharpness_ptr, threshold_ptr, image, count // STEP, pixel, inside, REGIONS, K, ACC)
    tl.store(out_ptr + base + element, out.to(out_ptr.dtype.element_ty), mask=inside)


@jit
def _piece_kernel(
    grad_ptr,
    sharpness_ptr,
    threshold_ptr,
    out_ptr,
    pixels,
    C: tl.constexpr,
    T: tl.constexpr,
    V: tl.constexpr,
    REGIONS: tl.constexpr,
    K: tl.constexpr,
    ACC: tl.constexpr,
):
    """The same for interleaved channels, V pixels a thread: their sharpness is read once, and 16 bytes at a time."""
    image, block = my_block(pixels, T * V)
    piece = block * T + tl.arange(0, T)[:, None]
    pixel = piece * V + tl.arange(0, V)[None, :]
    gain = apart(_gain(sharpness_ptr, threshold_ptr, image, pixels, pixel, pixel < pixels, REGIONS, K, ACC), T, V)
    grad = load_interleaved(grad_ptr + image * pixels * C, piece, pixels, piece >= 0, C, T, V, ACC)
    out = ()
    for j in tl.static_range(C * V):
        out = out + ((grad[j] * gain[j // C]).to(out_ptr.dtype.element_ty),)  # type: ignore[assignment]  # it grows
    store_interleaved(out_ptr + image * pixels * C, out, piece, pixels, piece >= 0, C, T, V)


# ------------------------------------------------------------------ launcher
def _backward(image: Tensor, grad: Tensor, k: float, mode: str) -> Tensor:
    out = _backward_fake(image, grad, k, mode)
    if not out.numel():
        return out
    batch, channels, height, width = image.shape
    _, _, down, across = strips(height, width)
    sharpness = image.new_empty((batch, 1, height, width), dtype=_op.wide(image))
    sums = sharpness.new_empty((batch, down * across)) if mode == "regions" else None
    launch_laplace(image, "replicate", sharpness, partial=sums)
    threshold = two_means(sharpness, sums, STEPS) if mode == "regions" else None
    tensors = _op.dense(grad), sharpness, threshold, out
    options = {"REGIONS": mode == "regions", "K": k, "ACC": _op.accumulator(image)}
    with torch.cuda.device_of(grad):
        if interleaved(out):
            pixels, threads = per_piece(out), 128
            _piece_kernel[(batch * triton.cdiv(height * width, threads * pixels),)](
                *tensors, height * width, C=channels, T=threads, V=pixels, **options, num_warps=threads // 32
            )
        else:
            grid, where = walks(out)
            _walk_kernel[grid](*tensors, **where, **options)
    return out


def _backward_fake(image: Tensor, grad: Tensor, k: float, mode: str) -> Tensor:
    return _op.empty_like(grad)


backward_op = _op.register(
    "sharp_gradient_backward(Tensor image, Tensor grad, float k, str mode) -> Tensor", _backward, _backward_fake
)


class _SharpGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, k, mode, eager):
        ctx.options = k, mode
        ctx.eager = eager
        ctx.save_for_backward(image)
        return image.view_as(image)

    @staticmethod
    def backward(ctx, grad):
        (image,) = ctx.saved_tensors
        # With create_graph the gradient has a gradient itself: that of the multiplication.
        if ctx.eager or torch.is_grad_enabled():
            return scaled_eager(grad, gain_eager(image, *ctx.options)), None, None, None
        return backward_op(image, grad, *ctx.options), None, None, None


# ---------------------------------------------------------------- public API
def sharp_gradient(image: Tensor, k: float = 1.5, mode: str = "regions", impl: str = "auto") -> Tensor:
    """Pass an image on unchanged, and strengthen the gradient that comes back where the image is sharp.

    Args:
        image: floating (B, C, H, W), any memory layout. "smooth" expects [-1, 1], its gain depends on the units;
            "regions" means the same in any units.
        k: the gain on sharp regions in mode "regions"; 1 elsewhere. "smooth" does not use it.
        mode: "regions" splits each image's sharpness in two clusters and multiplies the sharper one's gradient by k;
            "smooth" multiplies by 1 + tanh(sharpness), between 1 and 2, as published.
        impl: "auto", "eager" or "triton".

    Returns:
        A view of image, at no cost. Do not write into it in place: torch refuses.

    Raises:
        ValueError: image is not a floating (B, C, H, W) tensor, or mode is neither name.

    Example:
        >>> image = torch.tensor([[[[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]]], requires_grad=True)
        >>> sharp_gradient(image).sum().backward()
        >>> image.grad[0, 0]
        tensor([[1.0000, 1.0000, 1.5000, 1.5000, 1.0000, 1.0000]])
    """
    check_image("sharp_gradient", "image", image)
    check_one_of("sharp_gradient", "mode", mode, MODES)
    return _SharpGradient.apply(image, float(k), mode, choose("sharp_gradient", impl, image) == "eager")

"""The paper's gradient manipulator: identity whose gradient is larger where the image is sharp.

    forward: image itself
    backward: grad * gain,   gain = k on the sharp regions of the image and 1 elsewhere          (mode "regions")
                             gain = 1 + tanh(sharpness)                                          (mode "smooth")

sharpness = |L(g)| of the channel mean g with a replicate border, in float32 (see `laplace_sharpness`); the sharp
regions are those of `sharp_regions`, five steps.

Traffic for three channels of e bytes: forward none, the output is a view of the input. Backward reads 3e + 3e and
writes 3e bytes a pixel, and passes the sharpness in float32 from kernel to kernel: 4 written and 4 read ("smooth", two
launches) or 6 x 4 read ("regions", eight launches), from L2 as long as the batch fits there (17 MB for 64 images of
256 x 256). One kernel for "smooth" would save those 8 bytes, and lose more in NHWC: a stencil holds a pixel a thread,
so it would write every 32-byte sector of the gradient in three pieces. Saved: the image.

The gain depends on the image but is a constant in every derivative: gradients of gradients are those of the
multiplication. Source: figure 3 of the paper (k = 1.5); "smooth" is the published code's `GradientManipulator`.
"""

import torch
from torch import Tensor

from tmgan_kernels import _op
from tmgan_kernels._dispatch import check_image, check_one_of, choose
from tmgan_kernels._stream import elements, walks
from tmgan_kernels._triton import jit, tl
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


# -------------------------------------------------------------------- kernel
@jit
def _gain_kernel(grad_ptr, sharpness_ptr, threshold_ptr, out_ptr, count, PLANES: tl.constexpr, STEP: tl.constexpr,
                 BLOCK: tl.constexpr, REGIONS: tl.constexpr, K: tl.constexpr, ACC: tl.constexpr):
    base, image, element, pixel, inside = elements(count, PLANES, STEP, BLOCK)
    grad = tl.load(grad_ptr + base + element, mask=inside, other=0.0).to(ACC)
    sharpness = tl.load(sharpness_ptr + image * (count // STEP) + pixel, mask=inside, other=0.0).to(ACC)
    if REGIONS:
        threshold = tl.load(threshold_ptr + image).to(ACC)
        out = tl.where(sharpness > threshold, grad * K, grad)
    else:
        out = grad * (2 * tl.sigmoid(2 * sharpness))  # = 1 + tanh(sharpness)
    tl.store(out_ptr + base + element, out.to(out_ptr.dtype.element_ty), mask=inside)


# ------------------------------------------------------------------ launcher
def _backward(image: Tensor, grad: Tensor, k: float, mode: str) -> Tensor:
    out = _backward_fake(image, grad, k, mode)
    if not out.numel():
        return out
    batch, _, height, width = image.shape
    _, _, down, across = strips(height, width)
    sharpness = image.new_empty((batch, 1, height, width), dtype=_op.wide(image))
    sums = sharpness.new_empty((batch, down * across)) if mode == "regions" else None
    launch_laplace(image, "replicate", sharpness, partial=sums)
    threshold = two_means(sharpness, sums, STEPS) if mode == "regions" else None
    grid, where = walks(out)
    with torch.cuda.device_of(grad):
        _gain_kernel[grid](_op.dense(grad), sharpness, threshold, out, **where, REGIONS=mode == "regions", K=k,
                           ACC=_op.accumulator(image))
    return out


def _backward_fake(image: Tensor, grad: Tensor, k: float, mode: str) -> Tensor:
    return _op.empty_like(grad)


backward_op = _op.register("sharp_gradient_backward(Tensor image, Tensor grad, float k, str mode) -> Tensor", _backward,
                           _backward_fake)


class _SharpGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, k, mode, eager):
        ctx.options = k, mode
        ctx.eager = eager
        ctx.save_for_backward(image)
        return image.view_as(image)

    @staticmethod
    def backward(ctx, grad):
        image, = ctx.saved_tensors
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

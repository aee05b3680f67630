"""Identity whose gradient is multiplied by a gain of one value a pixel.

    forward: image itself      backward: grad[b, c, y, x] * gain[b, 0, y, x]

Traffic for three channels of e bytes and a gain of m: forward none, the output is a view of the input; backward reads
3e + m and writes 3e bytes a pixel. Saved: the gain, a constant. The layer is no derivative of anything: gradients of
its gradients are defined as those of the multiplication, gain * (gradient of the gradient), to any order. Source: the
gradient manipulator of the paper (figure 3), for a gain that the caller chooses.
"""

import torch
from torch import Tensor

from tmgan_kernels import _op
from tmgan_kernels._dispatch import check_image, check_plane, choose
from tmgan_kernels._stream import elements, plane, walks
from tmgan_kernels._triton import jit, tl


# ---------------------------------------------------------------- definition
def scaled_eager(grad: Tensor, gain: Tensor) -> Tensor:
    """The backward of `scale_gradient` in plain PyTorch: grad * gain in float32 or better, in the dtype of grad."""
    wide = _op.wide(grad)
    return (grad.to(wide) * gain.to(wide)).to(grad.dtype)


def scale_gradient_eager(image: Tensor, gain: Tensor) -> Tensor:
    """The definition of `scale_gradient` in plain PyTorch."""
    return _ScaleGradient.apply(image, gain, True)


# -------------------------------------------------------------------- kernel
@jit
def scale_kernel(
    grad_ptr, gain_ptr, out_ptr, count, PLANES: tl.constexpr, STEP: tl.constexpr, BLOCK: tl.constexpr, ACC: tl.constexpr
):
    base, image, element, pixel, inside = elements(count, PLANES, STEP, BLOCK)
    grad = tl.load(grad_ptr + base + element, mask=inside, other=0.0).to(ACC)
    gain = tl.load(gain_ptr + image * (count // STEP) + pixel, mask=inside, other=0).to(ACC)
    tl.store(out_ptr + base + element, (grad * gain).to(out_ptr.dtype.element_ty), mask=inside)


# ------------------------------------------------------------------ launcher
def _backward(grad: Tensor, gain: Tensor) -> Tensor:
    out = _backward_fake(grad, gain)
    if out.numel():
        grid, where = walks(out)
        with torch.cuda.device_of(grad):
            scale_kernel[grid](_op.dense(grad), plane(gain), out, **where, ACC=_op.accumulator(grad))
    return out


def _backward_fake(grad: Tensor, gain: Tensor) -> Tensor:
    return _op.empty_like(grad)


backward_op = _op.register("scale_gradient_backward(Tensor grad, Tensor gain) -> Tensor", _backward, _backward_fake)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, gain, eager):
        ctx.eager = eager
        ctx.save_for_backward(gain)
        return image.view_as(image)

    @staticmethod
    def backward(ctx, grad):
        (gain,) = ctx.saved_tensors
        # With create_graph the gradient has a gradient itself: that of the multiplication.
        multiply = scaled_eager if ctx.eager or torch.is_grad_enabled() else backward_op
        return multiply(grad, gain.detach()), None, None


# ---------------------------------------------------------------- public API
def scale_gradient(image: Tensor, gain: Tensor, impl: str = "auto") -> Tensor:
    """Pass an image on unchanged, and multiply the gradient that comes back by a gain of one value a pixel.

    Args:
        image: floating (B, C, H, W), any memory layout.
        gain: (B, 1, H, W), floating, integer or bool, a constant: no gradient reaches it. 1 leaves the gradient
            alone, 0 (or False) stops it.
        impl: "auto", "eager" or "triton".

    Returns:
        A view of image, at no cost. Do not write into it in place: torch refuses.

    Raises:
        ValueError: image is not a floating (B, C, H, W) tensor, or gain is not one plane of its size.

    Example:
        >>> image = torch.zeros(1, 2, 1, 3, requires_grad=True)
        >>> scale_gradient(image, torch.tensor([[[[1.0, 1.5, 0.0]]]])).sum().backward()
        >>> image.grad[0, :, 0]
        tensor([[1.0000, 1.5000, 0.0000],
                [1.0000, 1.5000, 0.0000]])
    """
    check_image("scale_gradient", "image", image)
    check_plane("scale_gradient", "gain", gain, image)
    return _ScaleGradient.apply(image, gain, choose("scale_gradient", impl, image, gain) == "eager")

"""Mean absolute error inside a mask: what keeps the text-irrelevant region of a photo as it was.

    loss = alpha * mean over b, c, y, x of |original - generated| * mask

Traffic for three channels of e bytes and a mask of m: forward reads 3e + 3e + m and writes 3 bytes a pixel (nothing
where no gradient is wanted); backward reads 3 + m and writes 3e for each image that has a gradient. Saved: the sign of
the difference, one int8 a value, beside the mask, a constant. Both images are read in the order of `generated`; an
`original` of another memory layout is copied first. Sums are finished in float64, in a fixed order. Differentiable any
number of times (second derivatives through the eager definition); the subgradient at equality, and at NaN, is 0.
Source: the paper's MAE-Mask loss, alpha * MAE(I_o * M, I_g * M) with alpha = 25.
"""

import torch
from torch import Tensor

from tmgan_kernels import _op
from tmgan_kernels._dispatch import check_image, check_plane, choose
from tmgan_kernels._stream import elements, launch_finish, plane, walks
from tmgan_kernels._triton import jit, tl


# ---------------------------------------------------------------- definition
def masked_mae_eager(original: Tensor, generated: Tensor, mask: Tensor, alpha: float = 25.0) -> Tensor:
    """The definition of `masked_mae` in plain PyTorch."""
    wide = _op.wide(original, generated)
    difference = (original.to(wide) - generated.to(wide)).abs() * mask.detach().to(wide)
    return alpha * difference.mean()


# ------------------------------------------------------------------- kernels
@jit
def difference_kernel(
    original_ptr,
    generated_ptr,
    mask_ptr,
    sign_ptr,
    partial_ptr,
    count,
    PLANES: tl.constexpr,
    STEP: tl.constexpr,
    BLOCK: tl.constexpr,
    SQUARE: tl.constexpr,
    SIGN: tl.constexpr,
    ACC: tl.constexpr,
):
    """A block's sum of |d| * mask, or of (d * mask)^2 (SQUARE), for d = original - generated; the sign of d (SIGN)."""
    base, image, element, pixel, inside = elements(count, PLANES, STEP, BLOCK)
    original = tl.load(original_ptr + base + element, mask=inside, other=0.0).to(ACC)
    generated = tl.load(generated_ptr + base + element, mask=inside, other=0.0).to(ACC)
    mask = tl.load(mask_ptr + image * (count // STEP) + pixel, mask=inside, other=0).to(ACC)
    difference = original - generated
    if SIGN:
        sign = tl.where(difference > 0, 1, tl.where(difference < 0, -1, 0))
        tl.store(sign_ptr + base + element, sign.to(tl.int8), mask=inside)
    if SQUARE:
        value = difference * mask
        value *= value
    else:
        value = tl.abs(difference) * mask
    tl.store(partial_ptr + tl.program_id(0).to(tl.int64), tl.sum(value, 0))


@jit(do_not_specialize=["values"])  # it depends on the batch
def _backward_kernel(
    grad_ptr,
    sign_ptr,
    mask_ptr,
    out_ptr,
    count,
    values,
    PLANES: tl.constexpr,
    STEP: tl.constexpr,
    BLOCK: tl.constexpr,
    ALPHA: tl.constexpr,
    ACC: tl.constexpr,
):
    """sign * mask * ALPHA * grad / values, for a scalar grad."""
    base, image, element, pixel, inside = elements(count, PLANES, STEP, BLOCK)
    sign = tl.load(sign_ptr + base + element, mask=inside, other=0).to(ACC)
    mask = tl.load(mask_ptr + image * (count // STEP) + pixel, mask=inside, other=0).to(ACC)
    value = sign * mask * (tl.load(grad_ptr).to(ACC) * ALPHA / values)
    tl.store(out_ptr + base + element, value.to(out_ptr.dtype.element_ty), mask=inside)


# ----------------------------------------------------------------- launchers
def launch_difference(original: Tensor, generated: Tensor, mask: Tensor, sign: Tensor | None, square: bool) -> Tensor:
    """Run `difference_kernel`: partial sums of each image, (B, parts). sign has the layout of `generated`."""
    generated = _op.dense(generated)
    original = original.contiguous(
        memory_format=torch.channels_last if _op.is_nhwc(generated) else torch.contiguous_format
    )
    grid, where = walks(generated)
    partial = generated.new_empty((len(generated), grid[0] // len(generated)), dtype=_op.wide(original, generated))
    with torch.cuda.device_of(generated):
        difference_kernel[grid](
            original,
            generated,
            plane(mask),
            sign,
            partial,
            **where,
            SQUARE=square,
            SIGN=sign is not None,
            ACC=_op.accumulator(original, generated),
        )
    return partial


def _forward(original: Tensor, generated: Tensor, mask: Tensor, alpha: float, signs: bool) -> tuple[Tensor, Tensor]:
    loss, sign = _forward_fake(original, generated, mask, alpha, signs)
    if generated.numel():
        partial = launch_difference(original, generated, mask, sign if signs else None, square=False)
        launch_finish(partial, loss, alpha, generated.numel())
    else:
        loss.fill_(float("nan"))  # the mean of nothing
    return loss, sign


def _forward_fake(
    original: Tensor, generated: Tensor, mask: Tensor, alpha: float, signs: bool
) -> tuple[Tensor, Tensor]:
    loss = generated.new_empty((), dtype=_op.wide(original, generated))
    sign = _op.empty_like(generated, dtype=torch.int8) if signs else generated.new_empty(0, dtype=torch.int8)
    return loss, sign


def _backward(grad: Tensor, sign: Tensor, mask: Tensor, alpha: float, dtype: torch.dtype) -> Tensor:
    out = _backward_fake(grad, sign, mask, alpha, dtype)
    if out.numel():
        grid, where = walks(out)
        with torch.cuda.device_of(out):
            _backward_kernel[grid](
                grad, sign, plane(mask), out, **where, values=out.numel(), ALPHA=alpha, ACC=_op.accumulator(grad)
            )
    return out


def _backward_fake(grad: Tensor, sign: Tensor, mask: Tensor, alpha: float, dtype: torch.dtype) -> Tensor:
    return _op.empty_like(sign, dtype=dtype)


forward_op = _op.register(
    "masked_mae(Tensor original, Tensor generated, Tensor mask, float alpha, bool signs) -> (Tensor, Tensor)",
    _forward,
    _forward_fake,
)
backward_op = _op.register(
    "masked_mae_backward(Tensor grad, Tensor sign, Tensor mask, float alpha, ScalarType dtype) -> Tensor",
    _backward,
    _backward_fake,
)


class _MaskedMAE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, original, generated, mask, alpha):
        loss, sign = forward_op(original, generated, mask, alpha, True)
        ctx.alpha = alpha
        ctx.save_for_backward(original, generated, mask, sign)
        return loss

    @staticmethod
    def backward(ctx, grad):
        original, generated, mask, sign = ctx.saved_tensors
        needed = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            gradients = _op.differentiable_gradients(
                lambda x, y: masked_mae_eager(x, y, mask, ctx.alpha), [original, generated], needed, grad
            )
            return *gradients, None, None
        return (
            backward_op(grad, sign, mask, ctx.alpha, original.dtype) if needed[0] else None,
            backward_op(grad, sign, mask, -ctx.alpha, generated.dtype) if needed[1] else None,
            None,
            None,
        )


# ---------------------------------------------------------------- public API
def check_pair(operation: str, original: Tensor, generated: Tensor, mask: Tensor) -> None:
    """Raise ValueError unless these are two images of one shape and a plane of it."""
    check_image(operation, "original", original)
    check_image(operation, "generated", generated)
    if original.shape != generated.shape:
        raise ValueError(
            f"{operation}: original {tuple(original.shape)} and generated {tuple(generated.shape)} must "
            "have equal shapes"
        )
    check_plane(operation, "mask", mask, generated)


def masked_mae(original: Tensor, generated: Tensor, mask: Tensor, alpha: float = 25.0, impl: str = "auto") -> Tensor:
    """alpha * mean over all B*C*H*W values of |original - generated| * mask. Not divided by the mask's area.

    Args:
        original: floating (B, C, H, W), in any units.
        generated: the same shape and units; the dtype may differ, as may the memory layout (at the cost of a copy).
        mask: (B, 1, H, W), bool, integer or floating (soft), 1 where the two should agree; a constant: no gradient
            reaches it.
        alpha: weight.
        impl: "auto", "eager" or "triton".

    Returns:
        scalar float32, or float64 if an image is. Differentiable in both images; the subgradient at equality is 0.

    Raises:
        ValueError: the images are not floating (B, C, H, W) of equal shapes, or mask is not one plane of their size.

    Example:
        >>> original, generated = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)
        >>> masked_mae(original, generated, torch.tensor([[[[True, True], [False, False]]]]))
        tensor(6.2500)
    """
    check_pair("masked_mae", original, generated, mask)
    alpha = float(alpha)
    if choose("masked_mae", impl, original, generated, mask) == "eager":
        return masked_mae_eager(original, generated, mask, alpha)
    mask = mask.detach()
    if torch.is_grad_enabled() and (original.requires_grad or generated.requires_grad):
        return _MaskedMAE.apply(original, generated, mask, alpha)
    return forward_op(original, generated, mask, alpha, False)[0]

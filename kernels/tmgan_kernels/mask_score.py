"""Mask score: how far an edit changed what it should have kept, as squared error inside a mask in 8-bit units.

    score[b] = (255 / (high - low))^2 * mean over c, y, x of ((original - generated) * mask)^2

Traffic for three channels of e bytes and a mask of m: reads 3e + 3e + m bytes a pixel. Both images are read in the
order of `generated`; an `original` of another memory layout is copied first. Sums are finished in float64, in a fixed
order. A metric: where a gradient is asked for, the eager definition runs. Source: Table I of the paper.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tmgan_kernels import _op
from tmgan_kernels._dispatch import choose
from tmgan_kernels._stream import launch_finish
from tmgan_kernels.masked_mae import check_pair, launch_difference


# ---------------------------------------------------------------- definition
def mask_score_eager(
    original: Tensor, generated: Tensor, mask: Tensor, value_range: Sequence[float] = (-1.0, 1.0)
) -> Tensor:
    """The definition of `mask_score` in plain PyTorch."""
    wide = _op.wide(original, generated)
    difference = (original.to(wide) - generated.to(wide)) * mask.detach().to(wide)
    return difference.square().mean(dim=(1, 2, 3)) * _units(value_range)


def _units(value_range: Sequence[float]) -> float:
    low, high = value_range
    return (255.0 / (high - low)) ** 2


# ------------------------------------------------------------------ launcher
def _forward(original: Tensor, generated: Tensor, mask: Tensor, units: float) -> Tensor:
    score = _forward_fake(original, generated, mask, units)
    if score.numel():
        partial = launch_difference(original, generated, mask, None, square=True)
        launch_finish(partial, score, units, generated[0].numel())
    return score


def _forward_fake(original: Tensor, generated: Tensor, mask: Tensor, units: float) -> Tensor:
    return generated.new_empty(generated.shape[:1], dtype=_op.wide(original, generated))


forward_op = _op.register(
    "mask_score(Tensor original, Tensor generated, Tensor mask, float units) -> Tensor", _forward, _forward_fake
)


# ---------------------------------------------------------------- public API
def mask_score(
    original: Tensor, generated: Tensor, mask: Tensor, value_range: Sequence[float] = (-1.0, 1.0), impl: str = "auto"
) -> Tensor:
    """Mean squared error of each image inside a mask, in units of 0 to 255. Not divided by the mask's area.

    Args:
        original: floating (B, C, H, W) in value_range.
        generated: the same shape and range; the dtype may differ, as may the memory layout (at the cost of a copy).
        mask: (B, 1, H, W), bool, integer or floating (soft), 1 on the region that the edit should keep.
        value_range: the values that stand for black and white, (0, 255) for images already in these units.
        impl: "auto", "eager" or "triton". A metric: with gradients enabled and an image that requires one, the eager
            definition runs whatever is asked.

    Returns:
        (B,) float32, or float64 if an image is; lower is better.

    Raises:
        ValueError: the images are not floating (B, C, H, W) of equal shapes, mask is not one plane of their size, or
            value_range is not increasing.

    Example:
        >>> original, generated = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 2 / 255)
        >>> mask_score(original, generated, torch.tensor([[[[1, 1], [0, 0]]]]))
        tensor([0.5000])
    """
    check_pair("mask_score", original, generated, mask)
    low, high = value_range
    if not low < high:
        raise ValueError(f"mask_score: value_range must be (low, high) with low < high, got {tuple(value_range)}")
    differentiable = torch.is_grad_enabled() and (original.requires_grad or generated.requires_grad)
    if choose("mask_score", impl, original, generated, mask) == "eager" or differentiable:
        return mask_score_eager(original, generated, mask, value_range)
    return forward_op(original, generated, mask.detach(), _units(value_range))

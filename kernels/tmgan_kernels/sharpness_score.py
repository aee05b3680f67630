"""Sharpness score of an image: the mean of its absolute Laplacian on the 0-255 scale.

    g = channel mean of (image - low) * 255 / (high - low)        score = mean over H * W of |Laplacian of g|

A border of "zeros" is padded after the mapping: it is black. The Laplacian of the mapped image is 255 / (high - low)
times that of the image padded with `low`, so nothing is mapped.

Traffic for three channels of e bytes: forward reads 3e bytes a pixel and writes nothing but sums. A metric: where a
gradient is wanted, the eager definition runs instead. Source: Table II of the paper and its `check_sharpness.py`.
"""

import math

import torch
from torch import Tensor

from tmgan_kernels import _op
from tmgan_kernels._dispatch import check_image, check_one_of, choose
from tmgan_kernels.laplace_sharpness import BORDERS, laplacian_eager, launch_laplace, strips


# ---------------------------------------------------------------- definition
def sharpness_score_eager(
    image: Tensor, value_range: tuple[float, float] = (-1.0, 1.0), border: str = "zeros"
) -> Tensor:
    """The definition of `sharpness_score` in plain PyTorch."""
    low, high = value_range
    mapped = (image.to(_op.wide(image)) - low) * (255 / (high - low))
    return laplacian_eager(mapped, border).abs().mean((1, 2, 3))


# ------------------------------------------------------------------ launcher
def _forward(image: Tensor, low: float, high: float, border: str) -> Tensor:
    batch, _, height, width = image.shape
    if not batch:
        return _forward_fake(image, low, high, border)
    _, _, down, across = strips(height, width)
    partial = image.new_empty((batch, down * across), dtype=_op.wide(image))
    launch_laplace(image, border, None, partial=partial, outside=low)
    return partial.sum(1) * (255 / (high - low) / (height * width))


def _forward_fake(image: Tensor, low: float, high: float, border: str) -> Tensor:
    return image.new_empty(image.shape[0], dtype=_op.wide(image))


forward_op = _op.register(
    "sharpness_score(Tensor image, float low, float high, str border) -> Tensor", _forward, _forward_fake
)


# ---------------------------------------------------------------- public API
def sharpness_score(
    image: Tensor, value_range: tuple[float, float] = (-1.0, 1.0), border: str = "zeros", impl: str = "auto"
) -> Tensor:
    """Mean absolute Laplacian of the channel mean, in units of 0-255, an image.

    Args:
        image: floating (B, C, H, W), any memory layout.
        value_range: the values (low, high) of black and white in image; they are mapped to 0 and 255.
        border: what lies outside the image: "zeros" is black (as published), "replicate" repeats the outermost pixels.
        impl: "auto", "eager" or "triton". Eager runs in any case where image requires a gradient.

    Returns:
        (B,) float32 (float64 for float64), 0 to 2040; about 50 for noise, 10 to 20 for photographs.

    Raises:
        ValueError: image is not a floating (B, C, H, W) tensor, value_range is not (low, high) with low < high, or
            border is neither name.

    Example:
        >>> image = torch.full((1, 3, 4, 4), -1.0)
        >>> image[:, :, 1, 1] = 1.0
        >>> sharpness_score(image)  # (4 + 1 + 1 + 1 + 1) * 255 / 16
        tensor([127.5000])
    """
    check_image("sharpness_score", "image", image)
    check_one_of("sharpness_score", "border", border, BORDERS)
    low, high = map(float, value_range)
    if not -math.inf < low < high < math.inf:
        raise ValueError(
            f"sharpness_score: value_range must be (low, high) with low < high, got {value_range!r}; "
            "(-1, 1) for what a generator returns, (0, 255) for 8-bit values"
        )
    wants_gradient = image.requires_grad and torch.is_grad_enabled()
    if choose("sharpness_score", impl, image) == "eager" or wants_gradient:
        return sharpness_score_eager(image, (low, high), border)
    return forward_op(image, low, high, border)

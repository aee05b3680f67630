"""Gaussian blur, channel by channel, truncated to a square.

    out[r, c] = sum of w[i] w[j] image[r + i, c + j] over i, j in [-R, R],   w[i] = exp(-i^2 / (2 sigma^2)) / norm

with R = kernel_size // 2 and norm such that the sum of w is 1. Zeros, the outermost pixels or the mirror image lie
outside. Traffic: 2e bytes a value of e bytes, forward and backward. Nothing is saved. Differentiable any number of
times: the derivative is the adjoint, see `_separable.py`. Weights are computed in float64 and compiled into the kernel:
one compilation a pair of size and sigma.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from tmgan_kernels import _op
from tmgan_kernels._dispatch import check_image, check_one_of, choose
from tmgan_kernels._separable import BORDERS, SIZES, check_reach, launch, launch_cuda, separable_eager


# ---------------------------------------------------------------- definition
def gaussian_weights(size: int, sigma: float) -> tuple[float, ...]:
    exponentials = [math.exp(-i * i / (2.0 * sigma * sigma)) for i in range(-(size // 2), size // 2 + 1)]
    norm = sum(exponentials)
    return tuple(value / norm for value in exponentials)


def gaussian_blur_eager(image: Tensor, kernel_size: int, sigma: float, border: str = "reflect") -> Tensor:
    """The definition of `gaussian_blur` in plain PyTorch."""
    return separable_eager(image, gaussian_weights(kernel_size, sigma), border).to(image.dtype)


# ------------------------------------------------------------------ launcher
_cached_weights = lru_cache(maxsize=256)(gaussian_weights)


def _blur(image: Tensor, kernel_size: int, sigma: float, border: str, adjoint: bool, cuda: bool) -> Tensor:
    return (launch_cuda if cuda else launch)(image, _cached_weights(kernel_size, sigma), border, adjoint, None)


def _blur_fake(image: Tensor, kernel_size: int, sigma: float, border: str, adjoint: bool, cuda: bool) -> Tensor:
    return _op.empty_like(image)


blur_op = _op.register(
    "gaussian_blur(Tensor image, int kernel_size, float sigma, str border, bool adjoint, bool cuda) -> Tensor",
    _blur,
    _blur_fake,
)


class _GaussianBlur(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, kernel_size, sigma, border, adjoint, cuda):
        ctx.options = kernel_size, sigma, border, adjoint, cuda
        return blur_op(image, kernel_size, sigma, border, adjoint, cuda)

    @staticmethod
    def backward(ctx, grad):
        kernel_size, sigma, border, adjoint, cuda = ctx.options
        return _GaussianBlur.apply(grad, kernel_size, sigma, border, not adjoint, cuda), None, None, None, None, None


# ---------------------------------------------------------------- public API
def gaussian_blur(image: Tensor, kernel_size: int, sigma: float, border: str = "reflect", impl: str = "auto") -> Tensor:
    """Blur every channel with a Gaussian.

    Args:
        image: floating (B, C, H, W), any range; dense NCHW and NHWC are read as they are, other layouts are copied.
        kernel_size: edge of the square that the Gaussian is truncated to, in pixels: odd, 3 to 15.
        sigma: its standard deviation in pixels, greater than 0.
        border: what lies outside the image: "reflect" its mirror image about the outermost pixels (they are not
            repeated), "replicate" its outermost pixels, "zeros" black pixels.
        impl: "auto", "eager", "triton" or "cuda".

    Returns:
        (B, C, H, W) in the dtype and memory format of image.

    Raises:
        ValueError: image is not a floating (B, C, H, W) tensor; kernel_size is not one of these sizes; sigma is not a
            positive finite number; border is none of the three; or the mirror image is too small: "reflect" needs H
            and W greater than kernel_size // 2.

    Example:
        >>> image = torch.zeros(1, 1, 3, 3)
        >>> image[..., 1, 1] = 1.0
        >>> gaussian_blur(image, 3, 1.0, border="zeros")[0, 0]
        tensor([[0.0751, 0.1238, 0.0751],
                [0.1238, 0.2042, 0.1238],
                [0.0751, 0.1238, 0.0751]])
    """
    check_image("gaussian_blur", "image", image)
    check_one_of("gaussian_blur", "kernel_size", kernel_size, SIZES)
    check_one_of("gaussian_blur", "border", border, BORDERS)
    if not 0 < sigma < math.inf:
        raise ValueError(f"gaussian_blur: sigma must be a positive number of pixels, got {sigma}")
    check_reach("gaussian_blur", image, kernel_size, border)
    chosen = choose("gaussian_blur", impl, image)
    if chosen == "eager":
        return gaussian_blur_eager(image, kernel_size, sigma, border)
    return _GaussianBlur.apply(image, kernel_size, sigma, border, False, chosen == "cuda")

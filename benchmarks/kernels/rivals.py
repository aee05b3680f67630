"""The same operations as others would write them, where that differs from our eager definition and is faster.

Each is a function of the tensors and options of the operation, and is compared with the definition before it is timed.
Weights are made once, as a module would keep them: making them on the host would end the capture of a CUDA graph.
"""

from __future__ import annotations

import functools
import importlib

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan_kernels import _op

try:
    import kornia
except ImportError:
    kornia = None

norm = importlib.import_module("tmgan_kernels.instance_norm_glu")  # the attribute of that name is the function
GROUPS = {"l2": 1.0, "half": 0.5, "quarter": 0.25}  # groups of images that fill such a share of the L2 cache


@functools.cache
def _stencil(channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The 4-neighbour Laplacian of the channel mean, (1, channels, 3, 3)."""
    stencil = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]) / channels
    return stencil.expand(1, channels, 3, 3).to(device, dtype).contiguous()


@functools.cache
def _bell(kernel_size: int, sigma: float, channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A Gaussian of sum 1 along a row, (channels, 1, 1, kernel_size)."""
    offset = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
    weight = torch.exp(-offset.square() / (2 * sigma**2))
    return (weight / weight.sum()).expand(channels, 1, 1, -1).to(device, dtype).contiguous()


def laplace_by_convolution(image: Tensor) -> Tensor:
    """One convolution that also takes the mean over channels."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, _stencil(image.shape[1], image.device, image.dtype)).abs()


def laplace_by_kornia(image: Tensor) -> Tensor:
    """kornia.filters.laplacian has eight neighbours; its filter2d takes any stencil."""
    grey = image.mean(1, keepdim=True)
    return kornia.filters.filter2d(grey, _stencil(1, image.device, image.dtype)[0], border_type="replicate").abs()


def box_by_pooling(image: Tensor, kernel_size: int) -> Tensor:
    rim = kernel_size // 2
    return F.avg_pool2d(F.pad(image, (rim, rim, rim, rim), mode="replicate"), kernel_size, stride=1)


def box_by_kornia(image: Tensor, kernel_size: int) -> Tensor:
    return kornia.filters.box_blur(image, kernel_size, border_type="replicate", separable=True)


def gaussian_by_convolution(image: Tensor, kernel_size: int, sigma: float) -> Tensor:
    """Two depthwise convolutions."""
    channels, rim = image.shape[1], kernel_size // 2
    weight = _bell(kernel_size, sigma, channels, image.device, image.dtype)
    padded = F.pad(image, (rim, rim, rim, rim), mode="reflect")
    return F.conv2d(F.conv2d(padded, weight, groups=channels), weight.transpose(2, 3), groups=channels)


def gaussian_by_kornia(image: Tensor, kernel_size: int, sigma: float) -> Tensor:
    return kornia.filters.gaussian_blur2d(image, (kernel_size, kernel_size), (sigma, sigma), border_type="reflect")


def norm_in_own_type(x: Tensor) -> Tensor:
    """Without the definition's copy to float32: torch's kernel accumulates in float32 by itself."""
    out = F.glu(F.instance_norm(x), dim=1)
    nhwc = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return out.contiguous(memory_format=torch.channels_last) if nhwc else out


class _ByGroups(torch.autograd.Function):
    """Our kernels on one group of images after another, into one result."""

    @staticmethod
    def forward(ctx, x: Tensor, images: int, eps: float) -> Tensor:
        x = _op.dense(x)
        out, mean, rstd = norm._forward_fake(x, eps, False)
        for i in range(0, len(x), images):
            own = slice(i, i + images)
            norm._launch(norm.forward_kernel, x[own], x[own], out[own], mean[own], rstd[own], EPS=eps)
        ctx.images = images
        ctx.save_for_backward(x, mean, rstd)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        x, mean, rstd = ctx.saved_tensors
        dx = _op.empty_like(x)
        grad = grad.contiguous(memory_format=torch.channels_last if _op.is_nhwc(x) else torch.contiguous_format)
        for i in range(0, len(x), ctx.images):
            own = slice(i, i + ctx.images)
            norm._launch(norm.backward_kernel, x[own], grad[own], x[own], mean[own], rstd[own], dx[own])
        return dx, None, None


def norm_by_groups(x: Tensor, share: float) -> Tensor:
    """instance_norm_glu by Triton on as many images at a time as fit, with their results, `share` of the L2 cache.

    Its second sweep then finds there what the first has read.
    """
    cache = torch.cuda.get_device_properties(x.device).L2_cache_size if x.is_cuda else 0
    images = int(share * cache / (1.5 * x[0].numel() * x.element_size()))
    return _ByGroups.apply(x, max(1, images), 1e-5)


LAPLACE = {"best-eager": laplace_by_convolution, "kornia": laplace_by_kornia}
BOX = {"best-eager": box_by_pooling, "kornia": box_by_kornia}
GAUSSIAN = {"best-eager": gaussian_by_convolution, "kornia": gaussian_by_kornia}
NORM = {
    "best-eager": norm_in_own_type,
    **{f"groups-{name}": functools.partial(norm_by_groups, share=share) for name, share in GROUPS.items()},
}

"""Convolution, bias and ReLU of the frozen networks in one cuDNN call: a toggle for a GPU to judge.

Inductor takes the bias out of a convolution, so that bias and ReLU are a pass over memory of their own: 7.7 GB of a
`combined` step at batch 40 (docs/performance.md). cuDNN can do them while it writes. Not tmgan's own way until a GPU
has run it, for two reasons in torch's source: `cudnn_convolution_relu` hands cuDNN its uninitialised output as a
summand with factor 0, which must neither cost a read nor let a NaN through; and its speed in bf16 is unknown. `check`
looks for the NaN.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.inception import BasicConv2d

from tmgan.models.encoders import VGGFeatures
from tmgan.models.resampling import max_pool

_LIBRARY = torch.library.Library("tmgan_rewrites", "DEF")
_LIBRARY.define("conv_relu(Tensor x, Tensor weight, Tensor bias, int[] stride, int[] padding) -> Tensor")
_LIBRARY.impl(
    "conv_relu", lambda x, weight, bias, stride, padding: F.conv2d(x, weight, bias, stride, padding).relu_(), "CPU"
)
_LIBRARY.impl(
    "conv_relu",
    lambda x, weight, bias, stride, padding: torch.cudnn_convolution_relu(x, weight, bias, stride, padding, (1, 1), 1),
    "CUDA",
)


@torch.library.register_fake("tmgan_rewrites::conv_relu", lib=_LIBRARY)
def _fake(x: Tensor, weight: Tensor, bias: Tensor, stride: list[int], padding: list[int]) -> Tensor:
    edges = [(x.shape[2 + i] + 2 * padding[i] - weight.shape[2 + i]) // stride[i] + 1 for i in (0, 1)]
    return x.new_empty((x.shape[0], weight.shape[0], *edges)).to(memory_format=torch.channels_last)


class _ConvReLU(torch.autograd.Function):
    """relu(conv(x) + bias) of constant weight and bias."""

    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding):
        y = torch.ops.tmgan_rewrites.conv_relu(x, weight, bias, stride, padding)
        ctx.save_for_backward(y, weight)
        ctx.shape, ctx.stride, ctx.padding = x.shape, stride, padding
        return y

    @staticmethod
    def backward(ctx, grad):
        y, weight = ctx.saved_tensors
        masked = torch.where(y > 0, grad, 0)
        return torch.nn.grad.conv2d_input(ctx.shape, weight, masked, ctx.stride, ctx.padding), None, None, None, None


def conv_relu(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """relu(conv(x)) for a frozen convolution with a bias, in the precision of its weights."""
    assert not conv.weight.requires_grad and conv.bias is not None and conv.groups == 1
    return _ConvReLU.apply(x.to(conv.weight.dtype), conv.weight, conv.bias, conv.stride, conv.padding)


def _vgg(self: VGGFeatures, image: Tensor) -> Tensor:
    first, second, third, fourth = self.layers.values()
    x = conv_relu(second, conv_relu(first, image))
    return conv_relu(fourth, conv_relu(third, max_pool(x, 2, 2)))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """While active, Inception and VGG run this way; their batch norms must be folded."""
    with (
        mock.patch.object(BasicConv2d, "forward", lambda self, x: conv_relu(self.conv, x)),
        mock.patch.object(VGGFeatures, "forward", _vgg),
    ):
        yield


def check(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> None:
    """RuntimeError unless conv_relu, in memory that held NaN before, equals the separate operations."""
    conv = nn.Conv2d(64, 64, 3, padding=1).requires_grad_(False).to(device, dtype, memory_format=torch.channels_last)
    x = torch.randn(4, 64, 32, 32, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    expected = F.relu(conv(x))
    poison = [torch.full_like(expected, float("nan")) for _ in range(8)]
    del poison  # the allocator hands these out next
    error = (conv_relu(conv, x).double() - expected.double()).abs().max().item()
    if not error <= 4 * torch.finfo(dtype).eps * expected.double().abs().max().item():
        raise RuntimeError(f"cudnn_convolution_relu in {dtype}: error {error}")

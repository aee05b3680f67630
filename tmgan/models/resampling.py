"""Doubling, pooling and bilinear resizing whose gradients are gathers: each input looks up what flows into it.

Their values are torch's own. torch writes the derivatives as scatters, which Inductor compiles to float atomics into a
zeroed fp32 NCHW buffer (the newest torch also that of pooling): 300 million of them in a `combined` step of 40 images,
in an order that changes from run to run, and the layer before gets its gradient in another layout. Gathers read NHWC as
it is, fuse with their neighbours, and repeat to the bit. Only a compiler makes one kernel of them, so without one
pooling and bilinear resizing are torch's.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmgan.models.precision import at_least_float32


def _pick(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x (B, H, W, C) at every pair of a row and a column: (B, len(rows), len(columns), C)."""
    return x.index_select(1, rows).index_select(2, columns)


# ----------------------------------------------------------------- nearest neighbour
class _NearestDoubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return F.avg_pool2d(grad, 2, divisor_override=1)  # the sum over 2x2


def nearest_doubling(x: Tensor) -> Tensor:
    """Each pixel as a square of four: (B, C, H, W) -> (B, C, 2H, 2W), in the dtype and layout of x."""
    return _NearestDoubling.apply(x)


# ------------------------------------------------------------------- maximum pooling
class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, kernel: int, stride: int) -> Tensor:
        y, index = F.max_pool2d(x, kernel, stride, return_indices=True)
        width = x.shape[3]
        top, left = (stride * torch.arange(edge, device=x.device) for edge in y.shape[2:])
        # Where in its window each maximum is: one byte per value for the backward pass, in place of the input.
        place = (index // width - top[:, None]) * kernel + index % width - left
        ctx.save_for_backward(place.to(torch.int8))
        ctx.edges, ctx.kernel, ctx.stride = x.shape[2:], kernel, stride
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (place,) = ctx.saved_tensors
        values, place = grad.permute(0, 2, 3, 1), place.permute(0, 2, 3, 1)
        rows, columns = (
            _windows(edge, pooled, ctx.kernel, ctx.stride, grad.device)
            for edge, pooled in zip(ctx.edges, grad.shape[2:], strict=True)
        )
        total = None
        for row, down in rows:
            for column, across in columns:
                # Of a window that does not reach here `down` or `across` is so negative that no place equals the sum.
                here = _pick(place, row, column) == (down[:, None] * ctx.kernel + across)[:, :, None]
                part = torch.where(here, at_least_float32(_pick(values, row, column)), 0.0)
                total = part if total is None else total + part
        assert total is not None  # every kernel has at least one row and column
        return total.to(grad.dtype).permute(0, 3, 1, 2), None, None


def _windows(edge: int, pooled: int, kernel: int, stride: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """For each of the windows that can cover a pixel of a line: its number, and where in it the pixel is."""
    windows, pixel = [], torch.arange(edge, device=device)
    for back in range(-(-kernel // stride)):
        window = pixel // stride - back
        offset = pixel - stride * window
        covers = (window >= 0) & (window < pooled) & (offset < kernel)
        windows.append((window.clamp(0, pooled - 1), torch.where(covers, offset, -kernel * kernel)))
    return windows


def max_pool(x: Tensor, kernel: int, stride: int) -> Tensor:
    """F.max_pool2d(x, kernel, stride) for kernels up to 11: (B, C, H, W) -> (B, C, (H - kernel) // stride + 1, ...)."""
    return _MaxPool.apply(x, kernel, stride) if torch.compiler.is_compiling() else F.max_pool2d(x, kernel, stride)


def conv_pool_relu(conv: nn.Conv2d, x: Tensor, kernel: int, stride: int) -> Tensor:
    """max_pool(relu(conv(x)), kernel, stride), with bias and ReLU behind the pooling.

    What is largest before them is largest after them, in value and gradient; and at the full size nothing is read and
    written just for them. For a convolution with a bias.
    """
    pooled = max_pool(F.conv2d(x, conv.weight, None, conv.stride, conv.padding), kernel, stride)
    assert conv.bias is not None
    return F.relu(pooled + conv.bias.to(pooled.dtype).view(-1, 1, 1))


# ------------------------------------------------------------------- average pooling
class _Mean3(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        # A symmetric filter is its own adjoint. Inductor writes torch's own derivative in NCHW.
        return F.avg_pool2d(grad, 3, stride=1, padding=1)


def mean3(x: Tensor) -> Tensor:
    """The mean over 3x3 pixels, those outside counted as 0: (B, C, H, W) -> the shape, dtype and layout of x."""
    return _Mean3.apply(x)


# ---------------------------------------------------------------- smaller pictures
def shrink(image: Tensor, factor: int) -> Tensor:
    """Pillow's bilinear reduction by 2 or 4, as ManiGAN's smaller photos are made, without its rounding to levels.

    Each pixel is a weighted mean of 2 * factor rows and columns, weights falling off linearly; at the border, of those
    that are there. Constant: no gradient flows back.

    Args:
        image: (B, C, S, S), channels_last, S a multiple of the factor.

    Returns:
        (B, C, S / factor, S / factor), channels_last, in fp32 or better.
    """
    batch, channels, edge, _ = image.shape
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        wide = at_least_float32(image).permute(0, 2, 3, 1)
        small = edge // factor
        centre = (torch.arange(small, device=image.device, dtype=wide.dtype) + 0.5) * factor
        pixel = torch.arange(edge, device=image.device, dtype=wide.dtype) + 0.5
        weights = (1 - (pixel - centre[:, None]).abs() / factor).clamp(min=0)
        weights = weights / weights.sum(1, keepdim=True)
        rows = weights @ wide.reshape(batch, edge, edge * channels)
        both = weights @ rows.view(batch * small, edge, channels)
        return both.view(batch, small, small, channels).permute(0, 3, 1, 2)


# ------------------------------------------------------------------- bilinear resize
def _resize(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


class _BilinearResize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, size: int) -> Tensor:
        ctx.edges = x.shape[2:]
        return _resize(x, size)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        total = at_least_float32(grad).permute(0, 2, 3, 1)
        for dim, edge in zip((1, 2), ctx.edges, strict=True):
            parts = [
                total.index_select(dim, output) * weight.view(-1, *[1] * (3 - dim))
                for output, weight in _readers(edge, grad.shape[dim + 1], total)
            ]
            total = sum(parts[1:], parts[0])
        return total.to(grad.dtype).permute(0, 3, 1, 2), None


def _readers(edge: int, size: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each pixel of a line of `edge`: the outputs of a resize to `size` that read it, and with what weight.

    Output o reads its source max(0, (o + 0.5) * edge / size - 0.5), so those whose source lies within 1 of the pixel.
    """
    scale, pixel = edge / size, torch.arange(edge, device=like.device)
    first = torch.floor((pixel.double() - 0.5) / scale - 0.5).long() + 1
    readers = []
    for number in range(math.ceil(2 / scale)):
        output = first + number
        source = ((output.to(like.dtype) + 0.5) * scale - 0.5).clamp(0, edge - 1)
        weight = (1 - (source - pixel).abs()).clamp(min=0) * ((output >= 0) & (output < size))
        readers.append((output.clamp(0, size - 1), weight))
    return readers


def bilinear_resize(x: Tensor, size: int) -> Tensor:
    """F.interpolate(x, (size, size), mode="bilinear", align_corners=False): (B, C, H, W) -> (B, C, size, size)."""
    return _BilinearResize.apply(x, size) if torch.compiler.is_compiling() else _resize(x, size)

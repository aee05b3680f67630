"""What the operations share between Python and their kernels: registration, layout, accumulator, second derivatives.

Every launcher is registered as an operator (`Library.define` / `impl`), so torch.compile sees one opaque functional
call; the derivative is a `torch.autograd.Function` around it, which Dynamo traces. This pair has the lowest host cost
of the routes torch offers that also pass `opcheck` without a GPU.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tmgan_kernels._triton import INTERPRETED, tl

_LIBRARY = torch.library.Library("tmgan_kernels", "DEF")


def register(schema: str, launch: Callable, fake: Callable) -> Callable:
    """Register `launch` as the operator `tmgan_kernels::<schema>`; `fake` gives the shapes, dtypes and strides alone.

    Outputs must be new tensors: an operator that returns its input, or a view of it, is undefined behaviour.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)
    _LIBRARY.impl(name, launch, "CUDA")
    if INTERPRETED:
        _LIBRARY.impl(name, launch, "CPU")
    torch.library.register_fake(f"tmgan_kernels::{name}", fake, lib=_LIBRARY)
    return getattr(torch.ops.tmgan_kernels, name).default


def is_nhwc(x: Tensor) -> bool:
    """Whether x is dense in channels_last order and in no other."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def addressable(x: Tensor) -> Tensor:
    """x itself, or a dense copy if one image of it spans 2^31 elements or more: kernels index an image in 32 bits."""
    span = sum((size - 1) * stride for size, stride in zip(x.shape[1:], x.stride()[1:], strict=True))
    return x if span < 2**31 else x.contiguous()


def dense(x: Tensor) -> Tensor:
    """x itself if it is dense as NCHW or NHWC, else a copy as NCHW (sliced, transposed or expanded tensors)."""
    return x if is_nhwc(x) else x.contiguous()


def empty_like(x: Tensor, channels: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """A new dense tensor in the memory format of x, by default of its shape and dtype."""
    batch, own, height, width = x.shape
    return torch.empty(
        (batch, own if channels is None else channels, height, width),
        dtype=dtype or x.dtype,
        device=x.device,
        memory_format=torch.channels_last if is_nhwc(x) else torch.contiguous_format,
    )


def accumulator(*tensors: Tensor) -> object:
    """The Triton dtype to compute in: float64 for float64 inputs (tests), float32 for all others."""
    return tl.float64 if any(x.dtype == torch.float64 for x in tensors) else tl.float32


def wide(*tensors: Tensor) -> torch.dtype:
    """The same as a torch dtype: that of sums, losses and scratch planes."""
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def differentiable_gradients(
    function: Callable, inputs: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients of function(*inputs), themselves differentiable; None where not `needed`.

    A backward kernel calls this instead of itself when the caller asked for create_graph, so that gradients of
    gradients are those of the eager definition. Under torch.compile they do not exist (torch refuses).
    """
    wanted = [x for x, need in zip(inputs, needed, strict=True) if need]
    with torch.enable_grad():
        gradients = iter(torch.autograd.grad(function(*inputs), wanted, grad, create_graph=True))
    return tuple(next(gradients) if need else None for need in needed)

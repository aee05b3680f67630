"""Less memory for more arithmetic: what keeps only its inputs, and is computed again in the backward pass.

Exact: the same operations on the same numbers, so the same losses and gradients. Nothing that is computed again here
draws random numbers, and the running statistics of batch normalisation move once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models.efficientnet import MBConv

from tmgan.models.attention import ChannelAttention, SpatialAttention
from tmgan.models.discriminator import NormedConv
from tmgan.models.encoders.efficientnet import Block
from tmgan.models.encoders.inception_blocks import BLOCKS
from tmgan.models.encoders.vgg import VGGFeatures
from tmgan.models.layers import AffineCombination, DownBlock, GatedConv, ResidualBlock

# The layers that hold nearly all activations, of the trained networks and of the frozen ones that judge an edit. Small
# ones, so that little is computed again at a time.
_LAYERS = (
    *(AffineCombination, ChannelAttention, DownBlock, GatedConv, NormedConv, ResidualBlock, SpatialAttention),
    *(*BLOCKS, Block, MBConv, VGGFeatures),
)


def keep_inputs_only(network: nn.Module) -> None:
    """From now on, each large layer of a network keeps only its inputs for the backward pass, in place.

    Names and weights stay as they are; a deep copy does the same.
    """
    for layer in network.children():
        if isinstance(layer, _LAYERS):
            layer.forward = functools.partial(_forward, layer)  # of this one only
        else:
            keep_inputs_only(layer)


def again(function: Callable[..., Any], *inputs: Tensor, within: AbstractContextManager | None = None) -> Any:
    """function(*inputs), computed again in the backward pass.

    Args:
        within: what the second computation runs in; the compiler keeps its own books, and takes none.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)
    more: dict[str, Any] = {}
    if within is not None and not torch.compiler.is_compiling():
        more = {"context_fn": lambda: (nullcontext(), within)}
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False, **more)


def _forward(layer: nn.Module, *inputs: Tensor) -> Any:
    function = functools.partial(type(layer).forward, layer)
    return again(function, *inputs, within=None if torch.compiler.is_compiling() else _statistics_at_rest(layer))


@contextmanager
def _statistics_at_rest(layer: nn.Module) -> Iterator[None]:
    """Batch normalisation as in train mode, but what it adds to its running statistics is nothing."""
    # By a momentum of 0, not without the statistics: autograd must save as many tensors as in the first computation.
    norms = [norm for norm in layer.modules() if isinstance(norm, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count

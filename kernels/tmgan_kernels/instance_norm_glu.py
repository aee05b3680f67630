"""Instance normalisation followed by a gated linear unit: the block at every stage of the generator.

Statistics are biased (divided by H*W), as in `torch.nn.InstanceNorm2d`, and never computed in half precision.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan_kernels._dispatch import choose


def instance_norm_glu_eager(x: Tensor, eps: float = 1e-5) -> Tensor:
    """The definition of `instance_norm_glu` in plain PyTorch."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    out = F.glu(F.instance_norm(wide, eps=eps), dim=1).to(x.dtype)
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        out = out.contiguous(memory_format=torch.channels_last)
    return out


def instance_norm_glu(x: Tensor, eps: float = 1e-5, impl: str = "auto") -> Tensor:
    """Normalise each (image, channel) plane, then gate the first half of the channels by the second.

    y = a * sigmoid(b), with a | b = (x - mean) / sqrt(variance + eps), biased variance over each plane.

    Args:
        x: floating (B, 2C, H, W), contiguous or channels_last, with more than one pixel a plane.
        eps: added to the variance, in squared units of x.
        impl: "auto" or "eager".

    Returns:
        (B, C, H, W) in the dtype and memory format of x.
    """
    if x.dim() != 4 or x.shape[1] % 2:
        raise ValueError(f"instance_norm_glu: x must be (B, 2C, H, W) with an even channel count, got {tuple(x.shape)}")
    choose("instance_norm_glu", impl, x)
    return instance_norm_glu_eager(x, eps)

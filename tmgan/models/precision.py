"""The precision that sums are taken in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """x in fp32 if it is in half precision, else x itself."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

"""Mean absolute error inside a mask: what keeps the text-irrelevant region of a photo as it was.

Source: the paper's MAE-Mask loss, alpha * MAE(I_o * M, I_g * M) with alpha = 25.
"""

import torch
from torch import Tensor

from tmgan_kernels._dispatch import choose


def masked_mae_eager(original: Tensor, generated: Tensor, mask: Tensor, alpha: float = 25.0) -> Tensor:
    """The definition of `masked_mae` in plain PyTorch."""
    wide = torch.float64 if original.dtype == torch.float64 else torch.float32
    difference = (original.to(wide) - generated.to(wide)).abs() * mask.to(wide)
    return alpha * difference.mean()


def masked_mae(original: Tensor, generated: Tensor, mask: Tensor, alpha: float = 25.0, impl: str = "auto") -> Tensor:
    """alpha * mean over all B*C*H*W values of abs(original - generated) * mask. Not divided by the mask's area.

    Args:
        original, generated: floating (B, C, H, W), in the same units.
        mask: (B, 1, H, W) of any dtype, 1 where the two should agree.
        alpha: weight.
        impl: "auto" or "eager".

    Returns:
        scalar, fp32 (fp64 for fp64 inputs). Differentiable in both images; the subgradient at equality is 0.
    """
    if original.shape != generated.shape or mask.shape != (original.shape[0], 1, *original.shape[2:]):
        raise ValueError(f"masked_mae: images {tuple(original.shape)} and {tuple(generated.shape)} with mask "
                         f"{tuple(mask.shape)}; use equal (B, C, H, W) and (B, 1, H, W)")
    choose("masked_mae", impl, original, generated, mask)
    return masked_mae_eager(original, generated, mask, alpha)

"""Blurred photos for the sharpness-aware discriminator, which learns that blur is fake.

Source: section II.C of the paper, figure 4.
"""

import torch
from torch import Tensor

from tmgan.config.methods import BlurConfig
from tmgan_kernels import box_blur, gaussian_blur, sharpness_score


def blur_real(config: BlurConfig, photo: Tensor, sizes: Tensor) -> Tensor:
    """The photos blurred, (B, 3, S, S).

    Args:
        sizes: (B,) int64, the plan's choice among config.sizes.
    """
    if config.kind == "gaussian":
        edge = config.sizes[0]
        # The standard deviation that OpenCV uses for a kernel of this size.
        return gaussian_blur(photo, edge, 0.3 * ((edge - 1) / 2 - 1) + 0.8, config.border)
    size: int | Tensor = config.sizes[0] if len(config.sizes) == 1 else sizes
    if config.kind == "grey":
        # As published: one kernel over all channels, so that every blurred photo is grey as well.
        return box_blur(photo.mean(1, keepdim=True), size, config.border).expand_as(photo)
    return box_blur(photo, size, config.border)


def counts(config: BlurConfig, photo: Tensor) -> Tensor | None:
    """(B,) 1 for photos sharp enough that blur is a defect, 0 for those already blurred; None: all count."""
    if config.skip_below == 0:
        return None
    with torch.no_grad():
        return (sharpness_score(photo, border="replicate") >= config.skip_below).float()

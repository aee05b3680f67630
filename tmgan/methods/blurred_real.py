"""Blurred photos for the sharpness-aware discriminator, which learns that blur is fake.

Source: section II.C of the paper, figure 4.
"""

import torch
from torch import Tensor

from tmgan.config.settings import BlurConfig
from tmgan_kernels import box_blur, gaussian_blur, sharpness_score


def blur_real(config: BlurConfig, photo: Tensor, sizes: Tensor) -> Tensor:
    """The photos blurred, (B, 3, S, S). sizes: int64 (B,), the plan's choice among config.sizes."""
    if config.kind == "gaussian":
        size = config.sizes[0]
        # The width that a kernel of this size is made for: OpenCV's rule.
        return gaussian_blur(photo, size, 0.3 * ((size - 1) / 2 - 1) + 0.8, config.border)
    size = config.sizes[0] if len(config.sizes) == 1 else sizes
    if config.kind == "grey":
        # As published: one kernel over all channels, so that every blurred photo is grey as well.
        return box_blur(photo.mean(1, keepdim=True), size, config.border).expand_as(photo)
    return box_blur(photo, size, config.border)


def counts(config: BlurConfig, photo: Tensor) -> Tensor | None:
    """(B,) 1 for photos sharp enough that blur is a defect, 0 for those that were blurred already; None: all count."""
    if config.skip_below == 0:
        return None
    with torch.no_grad():
        return (sharpness_score(photo, border="replicate") >= config.skip_below).float()

"""Naive sharpness loss and gradient manipulation: the generator's two ways to sharper images.

Source: section II.C of the paper.
"""

from torch import Tensor

from tmgan.config.methods import GradientConfig, SharpnessLossConfig
from tmgan_kernels import laplace_sharpness, naive_sharpness_loss, sharp_gradient, sharp_regions


def sharpness_loss(config: SharpnessLossConfig, photo: Tensor, edit: Tensor) -> Tensor:
    """Cross entropy between tanh(gamma * sharpness of the edit) and the sharp regions of edit or photo; scalar."""
    labels = sharp_regions(laplace_sharpness(photo))[0] if config.labels == "original" else None
    return naive_sharpness_loss(edit, config.gamma, labels, config.region)


def strengthen(config: GradientConfig, edit: Tensor) -> Tensor:
    """The edit as the losses see it: the same image, whose gradient is stronger where it is sharp."""
    return edit if config.mode == "none" else sharp_gradient(edit, config.gain, config.mode)

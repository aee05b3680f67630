"""The perceptual loss: the edited image should keep the low-level features of the photo."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan.models.layers import at_least_float32


def perceptual_loss(real_features: Tensor, fake_features: Tensor, keep: Tensor | None = None) -> Tensor:
    """Half the mean squared difference of two feature maps (B, P, h, w), as published with relu2_2 of VGG16.

    keep: (B, 1, S, S) in [0, 1] weights positions, 1 where the text asks for no change; it is averaged over each
    feature's area. The mean is over all positions, so an image that may change entirely (keep = 0) costs nothing.
    """
    with torch.autocast(fake_features.device.type, enabled=False):
        squared = (at_least_float32(fake_features) - at_least_float32(real_features)).square()
        if keep is not None:
            squared = squared * F.adaptive_avg_pool2d(keep.to(squared.dtype), squared.shape[2:])
        return 0.5 * squared.mean()

"""The perceptual loss: the edited image should keep the low-level features of the photo."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tmgan.models.precision import at_least_float32


class _HalfMeanSquare(torch.autograd.Function):
    """0.5 * mean(weight * (fake - real)^2), computed in fp32 or better; constant in real and weight.

    The derivative recomputes the difference from tensors that exist anyway: torch would write it in fp32 and read it
    back, a third of a gigabyte for 40 images of 256 pixels.
    """

    @staticmethod
    def forward(ctx, fake: Tensor, real: Tensor, weight: Tensor | None) -> Tensor:
        ctx.save_for_backward(fake, real, weight)
        squared = (at_least_float32(fake) - at_least_float32(real)).square()
        return 0.5 * (squared if weight is None else squared * weight).mean()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        fake, real, weight = ctx.saved_tensors
        difference = (at_least_float32(fake) - at_least_float32(real)) * (grad / fake.numel())
        return (difference if weight is None else difference * weight).to(fake.dtype), None, None


def perceptual_loss(real_features: Tensor, fake_features: Tensor, keep: Tensor | None = None) -> Tensor:
    """Half the mean squared difference of two feature maps (B, P, h, w), as published with relu2_2 of VGG16.

    The gradient is that of fake_features alone. The mean is over all positions, so an image that may change entirely
    (keep = 0) costs nothing.

    Args:
        keep: (B, 1, S, S) in [0, 1], constant, weights of the positions, 1 where the text asks for no change; it is
            averaged over each feature's area.
    """
    with torch.autocast(fake_features.device.type, enabled=False):
        weight = None
        if keep is not None:
            wide = torch.promote_types(fake_features.dtype, torch.float32)
            height, width = fake_features.shape[2:]
            weight = F.adaptive_avg_pool2d(keep.to(wide), (height, width))
        return _HalfMeanSquare.apply(fake_features, real_features, weight)

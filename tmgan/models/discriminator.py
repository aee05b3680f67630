"""The discriminator: one trunk, and two heads that judge the image alone and the image with its sentence.

It returns logits; the losses apply the sigmoid. In training its batch normalisation uses the statistics of each call,
so real and generated images go through the trunk in separate calls.
"""

import torch
from torch import Tensor, nn

from tmgan.models.layers import DownBlock, conv3, leaky_relu

SIZES = (16, 32, 64, 128, 256)


class NormedConv(nn.Module):
    """conv3, batch normalisation, leaky ReLU: (B, C_in, H, W) -> (B, C_out, H, W)."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv = conv3(channels_in, channels_out)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(self.norm(self.conv(x)))


class Discriminator(nn.Module):
    """Of ManiGAN and Lightweight GAN; D_NET64, D_NET128 and D_NET256 by image size.

    The trunk halves the image down to 4x4, doubling the channels, then returns to 8 * width channels:
    64 px: 4 halvings; 128 px: 5 halvings and one 3x3 convolution; 256 px: 6 halvings and two. For 16 and 32 px, the
    smaller scales of a small ManiGAN, it begins with 4 and 2 times the width.
    """

    def __init__(self, image_size: int, width: int = 64, sentence_dim: int = 256):
        super().__init__()
        if image_size not in SIZES:
            raise ValueError(f"Discriminator: image_size {image_size} is not supported; use 16, 32, 64, 128 or 256")
        halvings = image_size.bit_length() - 3  # down to 4 x 4
        channels, width = 8 * width, width << max(0, 4 - halvings)
        self.first = nn.Conv2d(3, width, 4, stride=2, padding=1, bias=False)
        self.down = nn.Sequential(*(DownBlock(width << i, width << (i + 1)) for i in range(halvings - 1)))
        self.narrow = nn.Sequential(*(NormedConv(width << i, width << (i - 1)) for i in range(halvings - 1, 3, -1)))
        self.joint = NormedConv(channels + sentence_dim, channels)
        self.conditional_logit = nn.Conv2d(channels, 1, 4)
        self.unconditional_logit = nn.Conv2d(channels, 1, 4)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) in [-1, 1] -> features (B, 8 * width, 4, 4) for the two heads."""
        return self.narrow(self.down(leaky_relu(self.first(image))))

    def conditional(self, features: Tensor, sentence: Tensor) -> Tensor:
        """features (B, 8 * width, 4, 4), sentence (B, S) -> logits (B,): is this a real image of this sentence?"""
        plane = sentence.to(features.dtype)[:, :, None, None].expand(-1, -1, *features.shape[2:])
        both = torch.cat([features, plane], dim=1).contiguous(memory_format=torch.channels_last)
        return self.conditional_logit(self.joint(both)).flatten()

    def unconditional(self, features: Tensor) -> Tensor:
        """features (B, 8 * width, 4, 4) -> logits (B,): is this a real image?"""
        return self.unconditional_logit(features).flatten()

"""A small photo encoder, trained from scratch in minutes, that stands in for Inception and VGG in the quickstart.

About 13 million multiply-adds for a 64-pixel image at width 32.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tmgan.models.encoders.features import ImageFeatures
from tmgan.models.layers import DownBlock, conv3


class SmallEncoder(nn.Module):
    """Regions, code and perceptual features from one convolutional network.

    Args:
        image_size: S, edge of the images: a multiple of 16.
        dim: of regions and code, in the space of the captions.
        width: channels of the perceptual features; deeper layers have 2 and 4 times as many.
    """

    def __init__(self, image_size: int, dim: int = 64, width: int = 32):
        super().__init__()
        if image_size % 16:
            raise ValueError(f"SmallEncoder: image_size {image_size} must be a multiple of 16")
        self.image_size = image_size
        self.dim = dim
        self.perceptual_dim = width
        # No normalisation here: the perceptual features keep absolute colour.
        self.stem = nn.Conv2d(3, width, 4, stride=2, padding=1)
        self.down = nn.Sequential(DownBlock(width, width), DownBlock(width, 2 * width))
        # Widens each region's view from 22 to 38 pixels: a crown is known by what is around it.
        self.context = nn.Sequential(conv3(2 * width, 2 * width), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2))
        self.region_head = nn.Conv2d(2 * width, dim, 1, bias=False)
        self.summary = DownBlock(2 * width, 4 * width)
        self.code_head = nn.Linear(4 * width, dim)

    def perceptual(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) in [-1, 1] -> (B, width, S/2, S/2), for any S."""
        return F.leaky_relu(self.stem(image), 0.2)

    def features(self, image: Tensor, code: bool = True) -> ImageFeatures:
        """image (B, 3, S, S) in [-1, 1] -> regions (B, dim, S/8, S/8), code (B, dim), perceptual (B, P, S/2, S/2).

        One pass gives all three, or without the code, which is then (B, 0).
        """
        assert image.shape[-1] == self.image_size, (image.shape, self.image_size)
        perceptual = self.perceptual(image)
        x = self.context(self.down(perceptual))
        regions = self.region_head(x)
        whole = self.code_head(self.summary(x).mean(dim=(2, 3))) if code else regions[:, :0, 0, 0]
        return ImageFeatures(regions, whole, perceptual)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, 3, S, S) in [-1, 1] -> regions (B, dim, S/8, S/8), code (B, dim)."""
        regions, code, _ = self.features(image)
        return regions, code

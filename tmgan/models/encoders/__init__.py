"""Encoders of captions and photos. `PhotoEncoder` is the one face the rest of tmgan sees, whatever is behind it."""

from torch import Tensor, nn

from tmgan.models.encoders.features import ImageFeatures
from tmgan.models.encoders.inception import InceptionEncoder
from tmgan.models.encoders.small import SmallEncoder
from tmgan.models.encoders.text import TextEncoder
from tmgan.models.encoders.vgg import VGGFeatures

__all__ = ["ImageFeatures", "InceptionEncoder", "PhotoEncoder", "SmallEncoder", "TextEncoder", "VGGFeatures"]


class PhotoEncoder(nn.Module):
    """Everything the generator and its losses want to know about an image in [-1, 1].

    Two builds: `PhotoEncoder(InceptionEncoder(), VGGFeatures())`, as published, and `PhotoEncoder(SmallEncoder(64))`,
    whose one small network answers all three questions.

    Attributes:
        dim: channels of regions and code. perceptual_dim: channels of the perceptual features.
    """

    def __init__(self, matcher: InceptionEncoder | SmallEncoder, perceptor: VGGFeatures | None = None):
        super().__init__()
        if isinstance(matcher, SmallEncoder) != (perceptor is None):
            raise ValueError("PhotoEncoder: use an InceptionEncoder with VGGFeatures, or a SmallEncoder alone")
        self.matcher = matcher
        self.perceptor = perceptor
        self.dim = matcher.dim
        self.perceptual_dim = matcher.perceptual_dim if perceptor is None else perceptor.perceptual_dim

    def regions_and_code(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, 3, S, S) -> regions (B, dim, g, g), code (B, dim)."""
        return self.matcher(image)

    def perceptual(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) -> (B, perceptual_dim, S/2, S/2)."""
        return self.matcher.perceptual(image) if self.perceptor is None else self.perceptor(image)

    def features(self, image: Tensor) -> ImageFeatures:
        """image (B, 3, S, S) -> all three."""
        if self.perceptor is None:
            return self.matcher.features(image)
        regions, code = self.matcher(image)
        return ImageFeatures(regions, code, self.perceptor(image))

"""Encoders of captions and photos. `PhotoEncoder` is the one interface that the rest of tmgan uses."""

from torch import Tensor, nn

from tmgan.models.encoders.efficientnet import EfficientNetEncoder, EfficientNetFeatures
from tmgan.models.encoders.efficientnet_b0 import B0Trunk
from tmgan.models.encoders.features import ImageFeatures
from tmgan.models.encoders.inception import InceptionEncoder
from tmgan.models.encoders.small import SmallEncoder
from tmgan.models.encoders.text import TextEncoder
from tmgan.models.encoders.vgg import VGGFeatures

__all__ = [
    "B0Trunk",
    "EfficientNetEncoder",
    "EfficientNetFeatures",
    "ImageFeatures",
    "InceptionEncoder",
    "PhotoEncoder",
    "SmallEncoder",
    "TextEncoder",
    "VGGFeatures",
]

_COUPLES = ((InceptionEncoder, VGGFeatures), (EfficientNetEncoder, EfficientNetFeatures))


class PhotoEncoder(nn.Module):
    """Everything the generator and its losses need to know about an image in [-1, 1].

    Three builds: `PhotoEncoder(InceptionEncoder(), VGGFeatures())`, as published;
    `PhotoEncoder(EfficientNetEncoder(), EfficientNetFeatures())`; and `PhotoEncoder(SmallEncoder(64))`, whose one small
    network answers all three questions.

    Attributes:
        dim: channels of regions and code.
        perceptual_dim: channels of the perceptual features.
    """

    def __init__(
        self,
        matcher: InceptionEncoder | EfficientNetEncoder | SmallEncoder,
        perceptor: VGGFeatures | EfficientNetFeatures | None = None,
    ):
        super().__init__()
        if isinstance(matcher, SmallEncoder) and perceptor is None:
            self.perceptual_dim = matcher.perceptual_dim
        elif perceptor is not None and (type(matcher), type(perceptor)) in _COUPLES:
            self.perceptual_dim = perceptor.perceptual_dim
        else:
            raise ValueError(
                "PhotoEncoder: use an InceptionEncoder with VGGFeatures, an EfficientNetEncoder with "
                "EfficientNetFeatures, or a SmallEncoder alone"
            )
        self.matcher = matcher
        self.perceptor = perceptor
        self.dim = matcher.dim

    def regions_and_code(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, 3, S, S) -> regions (B, dim, g, g), code (B, dim)."""
        return self.matcher(image)

    def perceptual(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) -> (B, perceptual_dim, S/2, S/2)."""
        if self.perceptor is not None:
            return self.perceptor(image)
        assert isinstance(self.matcher, SmallEncoder)
        return self.matcher.perceptual(image)

    def features(self, image: Tensor, code: bool = True) -> ImageFeatures:
        """image (B, 3, S, S) -> all three, or without the code, for which the networks have layers of its own."""
        if self.perceptor is None:
            assert isinstance(self.matcher, SmallEncoder)
            return self.matcher.features(image, code)
        if code:
            regions, whole = self.matcher(image)
            return ImageFeatures(regions, whole, self.perceptor(image))
        assert not isinstance(self.matcher, SmallEncoder)
        regions = self.matcher.regions(image)
        return ImageFeatures(regions, regions[:, :0, 0, 0], self.perceptor(image))

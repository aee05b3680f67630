"""What the generator knows about a photo."""

from typing import NamedTuple

from torch import Tensor


class ImageFeatures(NamedTuple):
    """Three views of a batch of photos.

    Attributes:
        regions: (B, R, g, g), what is where, in the space of the words.
        code: (B, C), the whole photo, in the space of the sentences; (B, 0) where it was not asked for.
        perceptual: (B, P, S/2, S/2), low-level features, for texture and for the perceptual loss.
    """

    regions: Tensor
    code: Tensor
    perceptual: Tensor

"""Where object masks come from when a data set has none: networks that look at a picture and, if they can, its text.

A new provider is one class with the interface of MaskProvider and a line in `make_provider`. What a provider finds in
the tiles of a pack is stored there by `tmgan data masks` (data/masks.py), which knows nothing of networks.
"""
from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from tmgan import weights
from tmgan.models.layers import init_frozen
from tmgan.models.segmentation import CROP_EDGE, Segmenter, voc_ids

_RANDOM_SEED = 0


class MaskProvider(Protocol):
    """Finds the object that a picture's text speaks of.

    Attributes:
        name: of the masks it makes, as in `method.keep_mask` and PACK/masks-NAME.u8.
        about: what the masks depend on, as JSON types; masks with another `about` are other masks. Its "weights" are
            "random" for random numbers, else a name with a hash.
    """

    name: str
    about: dict[str, str | list[str]]

    def __call__(self, images: Tensor, texts: list[str], span: float = 1.0) -> Tensor:
        """The object masks (B, 1, H, W) in [0, 1], 1 on the object; on the provider's device.

        images: (B, 3, H, W) in [-1, 1], on any device.
        texts: a caption for each.
        span: edge of the images in training crops: 1 for a crop, 304/256 for a tile. Networks are given a picture in
            the scale in which they would be given a crop.
        """


class FcnMasks:
    """Objects of given classes of Pascal VOC, by FCN-ResNet101; it reads no text."""

    name = "fcn"

    def __init__(self, classes: tuple[str, ...], pretrained: Literal["pretrained", "random"], weights_dir: str,
                 device: torch.device):
        ids = voc_ids(classes)
        self.segmenter = Segmenter(ids)
        if pretrained == "random":
            init_frozen(self.segmenter, torch.Generator().manual_seed(_RANDOM_SEED))
        else:
            self.segmenter.load_published(weights.load("fcn", weights_dir))
        self.segmenter.to(device=device, memory_format=torch.channels_last)
        source = "random" if pretrained == "random" else weights.KNOWN["fcn"].name
        self.about = {"classes": sorted(set(classes)), "weights": source}

    def __call__(self, images: Tensor, texts: list[str], span: float = 1.0) -> Tensor:
        return self.segmenter(images.to(self.segmenter.mean.device), round(CROP_EDGE * span))


def make_provider(name: str, classes: tuple[str, ...], pretrained: Literal["pretrained", "random"], weights_dir: str,
                  device: torch.device) -> MaskProvider:
    """The provider of a name. ValueError when a class is unknown or weights are missing, with what to do."""
    assert name == "fcn", name
    return FcnMasks(classes, pretrained, weights_dir, device)

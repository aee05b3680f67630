"""FCN-ResNet101: which pixels show an object of some classes. The pre-trained model of the paper's image comparing.

Source: section II.B of the paper; torchvision's fcn_resnet101, trained on COCO images with the classes of Pascal VOC.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation import fcn_resnet101

VOC = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
CROP_EDGE = 224  # of a training crop as the network sees it; a larger picture keeps that scale


def voc_ids(names: tuple[str, ...]) -> tuple[int, ...]:
    """Numbers of classes by name, sorted.

    Raises:
        ValueError: a name is unknown, or there is none; the message lists those that exist.
    """
    objects = VOC[1:]
    unknown = [name for name in names if name not in objects]
    if unknown or not names:
        what = f"There is no class {unknown[0]!r}" if unknown else "No class is given"
        raise ValueError(f"{what}. The segmentation network knows: {', '.join(objects)}.")
    return tuple(sorted({VOC.index(name) for name in names}))


class Segmenter(nn.Module):
    """The frozen network with its preprocessing. It stays in eval mode and computes no auxiliary head.

    Args:
        classes: numbers in VOC of what is an object.
    """

    classes: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, classes: tuple[int, ...] = (VOC.index("bird"),)):
        super().__init__()
        self.network = fcn_resnet101(weights=None, weights_backbone=None, aux_loss=False)
        self.register_buffer("classes", torch.tensor(classes), persistent=False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Segmenter:
        """Stays in eval mode, always."""
        return super().train(False)

    def load_published(self, state: dict[str, Tensor]) -> None:
        """Load torchvision's weights; those of the auxiliary head, which only training uses, are left out."""
        self.network.load_state_dict({k: v for k, v in state.items() if not k.startswith("aux_classifier.")})

    def prepare(self, images: Tensor, edge: int) -> Tensor:
        """images (B, 3, H, W) in [-1, 1] -> (B, 3, edge, edge), bilinear without antialias, ImageNet's statistics."""
        small = F.interpolate((images + 1) / 2, size=(edge, edge), mode="bilinear", align_corners=False)
        return (small - self.mean) / self.std

    def logits(self, images: Tensor, edge: int) -> Tensor:
        """(B, 21, edge, edge)."""
        return self.network(self.prepare(images, edge))["out"]

    def objects(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """logits -> the object mask (B, 1, *size): 1 on objects, fractions along their contours.

        As published: the likeliest class decides each pixel of the small picture, and the map of zeros and ones is
        enlarged bilinearly.
        """
        mask = torch.isin(logits.argmax(1, keepdim=True), self.classes).to(logits.dtype)
        return F.interpolate(mask, size=size, mode="bilinear", align_corners=False)

    @torch.no_grad()
    def forward(self, images: Tensor, edge: int = CROP_EDGE) -> Tensor:
        """The object mask (B, 1, H, W), in the weights' precision, also under autocast.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            edge: of the picture that the network sees.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self.objects(self.logits(images.to(self.mean.dtype), edge), images.shape[2:])

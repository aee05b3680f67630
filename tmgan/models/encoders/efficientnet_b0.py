"""torchvision's EfficientNet-B0, frozen, as a trunk for `efficientnet.py`: where pip cannot bring Lite0.

390 million multiply-adds for an image and 4 million weights, as Lite0, but with squeeze-and-excitation and swish.

Source: EfficientNet (Tan and Le, ICML 2019).
"""

import torch
from torch import Tensor, nn
from torchvision.models import efficientnet_b0

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's levels in [0, 1]
_FINE, _COARSE = 3, 5  # the last stages at stride 8 and 16 of the picture


class B0Trunk(nn.Module):
    """The network without its classifier, or its first `count` stages behind the stem; always in eval mode."""

    mean: Tensor
    std: Tensor

    def __init__(self, count: int | None = None):
        super().__init__()
        self.features = efficientnet_b0(weights=None).features[: None if count is None else count + 1]
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "B0Trunk":
        """Nothing changes: its batch norms keep their statistics, and no block is dropped."""
        return super().train(False)

    def load(self, state_dict: dict[str, Tensor]) -> None:
        """Load torchvision's ImageNet weights; other entries are left out."""
        self.load_state_dict({name: state_dict[name] for name in self.state_dict()})

    def first(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, 3, S, S) in [-1, 1], S even -> stem (B, 32, S/2, S/2), first stage (B, 16, S/2, S/2)."""
        stem = self.features[0](((image + 1) / 2 - self.mean) / self.std)
        return stem, self.features[1](stem)

    def fine(self, image: Tensor) -> Tensor:
        """image (B, 3, 224, 224) in [-1, 1] -> (B, 40, 28, 28)."""
        return self.features[2 : _FINE + 1](self.first(image)[1])

    def coarse(self, fine: Tensor) -> Tensor:
        """From there on to (B, 112, 14, 14)."""
        return self.features[_FINE + 1 : _COARSE + 1](fine)

    def whole(self, coarse: Tensor) -> Tensor:
        """From there on to the last map's mean, (B, 1280)."""
        return self.features[_COARSE + 1 :](coarse).mean(dim=(2, 3))

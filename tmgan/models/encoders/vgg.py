"""relu2_2 of VGG16: the features of the perceptual loss, and the generator's view of fine texture.

Takes images in [-1, 1] directly, as published: no ImageNet normalisation.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tmgan.models.resampling import conv_pool_relu


class VGGFeatures(nn.Module):
    """The first nine layers of torchvision's vgg16().features, frozen, under the same numbers: four convolutions."""

    perceptual_dim = 128

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                "0": nn.Conv2d(3, 64, 3, padding=1),
                "2": nn.Conv2d(64, 64, 3, padding=1),
                "5": nn.Conv2d(64, 128, 3, padding=1),
                "7": nn.Conv2d(128, 128, 3, padding=1),
            }
        )
        self.requires_grad_(False)

    def load_trunk(self, state_dict: dict[str, Tensor]) -> None:
        """Load torchvision's ImageNet weights of vgg16; entries of later layers are left out."""
        names = self.layers.state_dict().keys()
        self.layers.load_state_dict({name: state_dict[f"features.{name}"] for name in names})

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) in [-1, 1] -> (B, 128, S/2, S/2)."""
        first, second, third, fourth = self.layers.values()
        x = conv_pool_relu(second, F.relu(first(image)), 2, 2)
        return F.relu(fourth(F.relu(third(x))))

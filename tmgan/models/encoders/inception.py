"""The photo encoder of AttnGAN: a frozen Inception-v3 with two trained heads into the space of the captions.

It takes images in [-1, 1] directly, as published: no ImageNet normalisation.
"""

import torch
from torch import Tensor, nn
from torchvision.models import inception_v3

from tmgan.models.encoders.inception_blocks import BLOCKS, is_folded
from tmgan.models.resampling import bilinear_resize, conv_pool_relu, max_pool

INPUT_SIZE = 299
_UP_TO_REGIONS = (
    "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 Conv2d_3b_1x1 Conv2d_4a_3x3 "
    "Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e"
).split()
_POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")  # a maximum pooling follows
_AFTER_REGIONS = ("Mixed_7a", "Mixed_7b", "Mixed_7c")


class InceptionEncoder(nn.Module):
    """CNN_ENCODER of AttnGAN (Xu et al., CVPR 2018).

    Args:
        dim: of regions and code.
        batch_statistics: in train mode, let the trunk's batch normalisation use each batch's statistics and update
            its running ones. As published: the trunk is frozen but not in eval mode while the heads are trained.
            By default it stays in eval mode, always.
    """

    def __init__(self, dim: int = 256, batch_statistics: bool = False):
        super().__init__()
        self.dim = dim
        self.batch_statistics = batch_statistics
        layers = inception_v3(weights=None, aux_logits=False, init_weights=False, inception_blocks=BLOCKS)
        self.trunk = nn.ModuleDict({name: getattr(layers, name) for name in (*_UP_TO_REGIONS, *_AFTER_REGIONS)})
        self.trunk.requires_grad_(False)
        self.region_head = nn.Conv2d(768, dim, 1, bias=False)
        self.code_head = nn.Linear(2048, dim)
        self.train(self.training)

    def train(self, mode: bool = True) -> "InceptionEncoder":
        """Switch the mode; the frozen trunk follows only with batch_statistics=True."""
        super().train(mode)
        self.trunk.train(mode and self.batch_statistics)
        return self

    def load_trunk(self, state_dict: dict[str, Tensor]) -> None:
        """Load torchvision's ImageNet weights of inception_v3; the classifiers' entries are left out."""
        self.trunk.load_state_dict({k: v for k, v in state_dict.items() if not k.startswith(("fc.", "AuxLogits."))})

    @torch.no_grad()
    def init_heads(self, generator: torch.Generator) -> None:
        """As published: weights uniform within 0.1, bias as in PyTorch (uniform within 1/sqrt(2048))."""
        self.region_head.weight.uniform_(-0.1, 0.1, generator=generator)
        self.code_head.weight.uniform_(-0.1, 0.1, generator=generator)
        bound = self.code_head.in_features**-0.5
        self.code_head.bias.uniform_(-bound, bound, generator=generator)

    def _block(self, name: str, x: Tensor) -> Tensor:
        block = self.trunk[name]
        if name not in _POOLED:
            return block(x)
        if is_folded(block):
            return conv_pool_relu(block.conv, x, 3, 2)
        return max_pool(block(x), 3, 2)  # a normalisation may reverse the order of two values

    def _up_to_regions(self, image: Tensor) -> Tensor:
        x = bilinear_resize(image, INPUT_SIZE)
        for name in _UP_TO_REGIONS:
            x = self._block(name, x)
        return x

    def regions(self, image: Tensor) -> Tensor:
        """The regions alone, without the layers behind them: as `forward`."""
        return self.region_head(self._up_to_regions(image))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, 3, S, S) in [-1, 1], any S -> regions (B, dim, 17, 17), code (B, dim)."""
        x = self._up_to_regions(image)
        regions = self.region_head(x)
        for name in _AFTER_REGIONS:
            x = self.trunk[name](x)
        return regions, self.code_head(x.mean(dim=(2, 3)))

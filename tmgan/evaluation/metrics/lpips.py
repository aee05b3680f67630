"""LPIPS (Zhang et al., CVPR 2018), version 0.1 with AlexNet: distance between pictures as people judge it.

    d(x, y) = sum over five layers of mean over positions of sum over channels of w_c (x_c - y_c)^2

x_c and y_c are AlexNet's activations after each ReLU, divided by their length over the channels; the w >= 0 were
fitted to human judgements. Outside of a mask it is measured between the photo and the photo with the edit pasted in
where the mask says keep: no edge is cut that the pictures do not have.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmgan.editing.editor import Editor
from tmgan.evaluation.metrics.edits import Edits
from tmgan.evaluation.metrics.measure import Measure
from tmgan.evaluation.metrics.per_image import PerImage
from tmgan.models import weights
from tmgan.models.layers import init_frozen

_RELUS = (1, 4, 7, 9, 11)
_CHANNELS = (64, 192, 384, 256, 256)
# ImageNet's statistics, for pictures in [-1, 1], rounded as published.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_RANDOM = "lpips: the network's weights are random numbers: this is no LPIPS, and compares only with itself."


class Lpips(nn.Module):
    """The frozen network, always in eval mode and fp32.

    Args:
        pretrained: "pretrained" (see weights.py) or "random" weights from the seed.
        weights_dir: searched first.

    Raises:
        ValueError: when a file with weights is missing.

    Attributes:
        random: whether the weights are random numbers.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, pretrained: str = "pretrained", weights_dir: str = "", seed: int = 0):
        super().__init__()
        self.random = pretrained == "random"
        if not self.random:
            state, heads = weights.load("alexnet", weights_dir), weights.load("lpips", weights_dir)
        trunk = _alexnet()
        if self.random:
            generator = torch.Generator().manual_seed(seed)
            init_frozen(trunk, generator)
            linear = [torch.rand(channels, generator=generator) for channels in _CHANNELS]
        else:
            trunk.load_state_dict({k: state[f"features.{k}"] for k in trunk.state_dict()})
            linear = [heads[f"lin{layer}.model.1.weight"].flatten() for layer in range(len(_CHANNELS))]
        self.trunk = trunk.eval().requires_grad_(False)
        for name, constants in (("shift", _SHIFT), ("scale", _SCALE)):
            self.register_buffer(name, torch.tensor(constants).view(3, 1, 1), persistent=False)
        for layer, weight in enumerate(linear):
            self.register_buffer(f"linear{layer}", weight.view(1, -1, 1, 1), persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """images (B, 3, H, W) in [-1, 1], H and W at least 63 -> five maps (B, C, h, w) of length 1 over C."""
        maps, x = [], (images - self.shift) / self.scale
        for number, layer in enumerate(self.trunk):
            x = layer(x)
            if number in _RELUS:
                maps.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return maps

    def between(self, x: list[Tensor], y: list[Tensor]) -> Tensor:
        """(B,) distances of two sets of features."""
        parts = [
            ((a - b).square() * getattr(self, f"linear{layer}")).sum(1).mean((1, 2))
            for layer, (a, b) in enumerate(zip(x, y, strict=True))
        ]
        return torch.stack(parts).sum(0)


def _alexnet() -> nn.Sequential:
    """torchvision's alexnet().features up to the last ReLU, without the classifier, which is most of its weights."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


class LpipsOutside(PerImage):
    """lpips/MASK: LPIPS(x, keep * y + (1 - keep) * x)."""

    def __init__(self, editor: Editor, pretrained: str, weights_dir: str):
        super().__init__()
        self.network = Lpips(pretrained, weights_dir).to(editor.runtime.device)

    def of_batch(self, batch: Edits) -> dict[str, Tensor]:
        photos = self.network.features(batch.photos)
        composites = {name: torch.lerp(batch.photos, batch.edits, keep) for name, keep in batch.keep.items()}
        return {
            f"lpips/{name}": self.network.between(photos, self.network.features(images))
            for name, images in composites.items()
        }

    def measure(self, name: str, values: list[float]) -> Measure:
        return Measure.of(values, better="lower", note=_RANDOM if self.network.random else "")

"""A photo encoder that knows real photographs: a frozen EfficientNet (ImageNet) with trained heads.

The trunk is Lite0: 390 million multiply-adds for an image, 3.4 million frozen weights; it has no
squeeze-and-excitation, and ReLU6 in place of swish. Or torchvision's B0, see `efficientnet_b0.py`, another network with
the same channels. Weights are looked up by `weights.py`.

Source: EfficientNet (Tan and Le, ICML 2019), in its "Lite" form for mobile devices.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tmgan.models.encoders.efficientnet_b0 import B0Trunk
from tmgan.models.layers import init_weights
from tmgan.models.resampling import bilinear_resize

INPUT_SIZE = 224
_STEM, _TOP = 32, 1280
# Expansion, channels, blocks, stride of the first one, kernel of each stage.
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_FINE, _COARSE = 4, 10  # the last blocks at stride 8 and 16 of the picture
_FINE_CHANNELS, _COARSE_CHANNELS, _COLOURS = 40, 112, 3
_HIDDEN = 256
_EPS = 1e-3  # of the network's batch norms
_LINEAR_SCALE = 0.25  # standard deviation on photos, of Lite0: 1.6 after the stem, 6.6 after the first block


def _normalise(image: Tensor) -> Tensor:
    """image in [-1, 1] -> as the network was trained: 8-bit levels less 127, over 128."""
    return (image * 127.5 + 0.5) / 128


class _SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: with stride 2, more of it at the right and at the bottom.

    For inputs of even size. It has a bias: batch norms are folded into it when weights are loaded.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        even = stride == 1
        super().__init__(channels_in, channels_out, kernel, stride, kernel // 2 if even else 0, groups=groups)
        before = (kernel - 2) // 2
        self.uneven = (0, 0) if even else (before, kernel - 2 - before)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride != (1, 1):
            x = F.pad(x, self.uneven * 2)
        return super().forward(x)


class Block(nn.Module):
    """MBConv without squeeze-and-excitation: widen by 1x1, filter each channel, narrow by 1x1 without activation."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = channels_in * expansion
        self.expand = _SameConv(channels_in, wide) if expansion > 1 else None
        self.depthwise = _SameConv(wide, wide, kernel, stride, groups=wide)
        self.project = _SameConv(wide, channels_out)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


def _blocks() -> list[Block]:
    blocks, channels = [], _STEM
    for expansion, width, count, stride, kernel in _STAGES:
        for number in range(count):
            blocks.append(Block(channels, width, expansion, kernel, stride if number == 0 else 1))
            channels = width
    return blocks


class Lite0Trunk(nn.Module):
    """Lite0 without its classifier, or its first `count` blocks; frozen, without batch norms of its own."""

    def __init__(self, count: int | None = None):
        super().__init__()
        self.stem = _SameConv(3, _STEM, 3, 2)
        self.blocks = nn.ModuleList(_blocks()[:count])
        self.top = _SameConv(_STAGES[-1][1], _TOP) if count is None else None
        self.requires_grad_(False)

    def _published(self) -> Iterator[tuple[_SameConv, str, str]]:
        """Each convolution, its published name and that of the batch norm behind it."""
        yield self.stem, "_conv_stem", "_bn0"
        for number, block in enumerate(self.blocks):
            for conv, norm in (("expand", 0), ("depthwise", 1), ("project", 2)):
                if getattr(block, conv) is not None:
                    yield getattr(block, conv), f"_blocks.{number}._{conv}_conv", f"_blocks.{number}._bn{norm}"
        if self.top is not None:
            yield self.top, "_conv_head", "_bn1"

    @torch.no_grad()
    def load(self, state_dict: dict[str, Tensor]) -> None:
        """Load published weights, batch norms folded into the convolutions; other entries are left out."""
        for conv, name, norm in self._published():
            mean, variance, scale, shift = (
                state_dict[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
            )
            fused = fuse_conv_bn_weights(state_dict[f"{name}.weight"], None, mean, variance, _EPS, scale, shift)
            for mine, theirs in zip((conv.weight, conv.bias), fused, strict=True):
                assert mine is not None and mine.shape == theirs.shape, (name, theirs.shape)
                mine.copy_(theirs)

    def first(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, 3, S, S) in [-1, 1], S even -> stem (B, 32, S/2, S/2), first block (B, 16, S/2, S/2)."""
        stem = F.relu6(self.stem(_normalise(image)))
        return stem, self.blocks[0](stem)

    def fine(self, image: Tensor) -> Tensor:
        """image (B, 3, 224, 224) in [-1, 1] -> (B, 40, 28, 28)."""
        x = self.first(image)[1]
        for block in self.blocks[1 : _FINE + 1]:
            x = block(x)
        return x

    def coarse(self, fine: Tensor) -> Tensor:
        """From there on to (B, 112, 14, 14)."""
        for block in self.blocks[_FINE + 1 : _COARSE + 1]:
            fine = block(fine)
        return fine

    def whole(self, coarse: Tensor) -> Tensor:
        """From there on to the last map's mean, (B, 1280)."""
        assert self.top is not None
        for block in self.blocks[_COARSE + 1 :]:
            coarse = block(coarse)
        return F.relu6(self.top(coarse)).mean(dim=(2, 3))


class EfficientNetEncoder(nn.Module):
    """Regions and code from EfficientNet.

    A region sees the maps at stride 8 and 16 of the picture at 224 pixels, and the mean colour of its own pixels:
    ImageNet features tell kinds of things well, and colours badly. The code sees the regions' mean and the last map's.

    Args:
        dim: of regions and code, in the space of the captions.
        trunk: which network.
    """

    def __init__(self, dim: int = 256, trunk: type[Lite0Trunk] | type[B0Trunk] = Lite0Trunk):
        super().__init__()
        self.dim = dim
        self.trunk = trunk()
        self.norm = nn.BatchNorm2d(_FINE_CHANNELS + _COARSE_CHANNELS + _COLOURS)  # they differ in scale
        self.hidden = nn.Conv2d(self.norm.num_features, _HIDDEN, 1)
        self.region_head = nn.Conv2d(_HIDDEN, dim, 1, bias=False)
        self.code_head = nn.Linear(_HIDDEN + _TOP, dim)

    def load_trunk(self, state_dict: dict[str, Tensor]) -> None:
        """Load the trunk's published ImageNet weights; the classifier's entries are left out."""
        self.trunk.load(state_dict)

    def init_heads(self, generator: torch.Generator) -> None:
        """As a network that is trained from scratch."""
        for head in (self.norm, self.hidden, self.region_head, self.code_head):
            init_weights(head, generator)

    def _look(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the region head sees (B, 256, 14, 14), and the trunk's map that its later blocks go on from."""
        # channels_last: convolutions of single channels are three times as fast in it on a CPU.
        picture = bilinear_resize(image, INPUT_SIZE).contiguous(memory_format=torch.channels_last)
        fine = self.trunk.fine(picture)
        coarse = self.trunk.coarse(fine)
        colours = F.avg_pool2d(picture, INPUT_SIZE // coarse.shape[-1])
        seen = torch.cat([F.avg_pool2d(fine, 2), coarse, colours.to(coarse.dtype)], dim=1)
        return F.leaky_relu(self.hidden(self.norm(seen)), 0.2), coarse

    def regions(self, image: Tensor) -> Tensor:
        """The regions alone, without the trunk's last third, as `forward`."""
        return self.region_head(self._look(image)[0])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, 3, S, S) in [-1, 1], any S -> regions (B, dim, 14, 14), code (B, dim)."""
        hidden, coarse = self._look(image)
        whole = self.trunk.whole(coarse)
        return self.region_head(hidden), self.code_head(torch.cat([hidden.mean(dim=(2, 3)), whole], dim=1))


class EfficientNetFeatures(nn.Module):
    """The first convolution and block of EfficientNet, frozen, at the picture's own size.

    What VGG's relu2_2 is to Inception: edges, texture and colour at half the picture's size, for the generator and the
    perceptual loss.
    """

    perceptual_dim = _STEM + _STAGES[0][1]

    def __init__(self, trunk: type[Lite0Trunk] | type[B0Trunk] = Lite0Trunk):
        super().__init__()
        self.trunk = trunk(1)

    def load_trunk(self, state_dict: dict[str, Tensor]) -> None:
        """Load the trunk's published ImageNet weights; later layers' entries are left out."""
        self.trunk.load(state_dict)

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) in [-1, 1], S even -> (B, 48, S/2, S/2)."""
        stem, block = self.trunk.first(image)
        return torch.cat([stem, block * _LINEAR_SCALE], dim=1)

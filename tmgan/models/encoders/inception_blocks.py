"""torchvision's Inception blocks, moving less memory: pooled by `max_pool`, and 1x1 convolutions of one input as one.

Weights, names and values are torchvision's. Only blocks whose batch norms were
folded (`fold_batch_norms`) are joined: the input is then read once, and its gradient written once, instead of once per
branch.
"""

from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.inception import (
    BasicConv2d,
    InceptionA,
    InceptionAux,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
)

from tmgan.models.resampling import max_pool, mean3


def is_folded(block: nn.Module) -> TypeGuard[BasicConv2d]:
    """Whether the block is a convolution with a bias, and ReLU."""
    return isinstance(block.bn, nn.Identity)


def side_by_side(x: Tensor, *blocks: BasicConv2d) -> list[Tensor]:
    """[block(x) for block in blocks], all of them 1x1."""
    if not all(map(is_folded, blocks)):
        return [block(x) for block in blocks]
    outputs = F.conv2d(x, torch.cat([block.conv.weight for block in blocks]))
    parts = outputs.split([block.conv.out_channels for block in blocks], dim=1)
    return [
        F.relu(part + block.conv.bias.to(part.dtype).view(-1, 1, 1)) for part, block in zip(parts, blocks, strict=True)
    ]


class A(InceptionA):
    def _forward(self, x: Tensor) -> list[Tensor]:
        one, five, three = side_by_side(x, self.branch1x1, self.branch5x5_1, self.branch3x3dbl_1)
        return [
            one,
            self.branch5x5_2(five),
            self.branch3x3dbl_3(self.branch3x3dbl_2(three)),
            self.branch_pool(mean3(x)),
        ]


class B(InceptionB):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [self.branch3x3(x), self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))), max_pool(x, 3, 2)]


class C(InceptionC):
    def _forward(self, x: Tensor) -> list[Tensor]:
        one, seven, twice = side_by_side(x, self.branch1x1, self.branch7x7_1, self.branch7x7dbl_1)
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(twice))
        return [
            one,
            self.branch7x7_3(self.branch7x7_2(seven)),
            self.branch7x7dbl_5(self.branch7x7dbl_4(twice)),
            self.branch_pool(mean3(x)),
        ]


class D(InceptionD):
    def _forward(self, x: Tensor) -> list[Tensor]:
        three, seven = side_by_side(x, self.branch3x3_1, self.branch7x7x3_1)
        seven = self.branch7x7x3_3(self.branch7x7x3_2(seven))
        return [self.branch3x3_2(three), self.branch7x7x3_4(seven), max_pool(x, 3, 2)]


class E(InceptionE):
    def _forward(self, x: Tensor) -> list[Tensor]:
        one, three, twice = side_by_side(x, self.branch1x1, self.branch3x3_1, self.branch3x3dbl_1)
        twice = self.branch3x3dbl_2(twice)
        return [
            one,
            torch.cat([self.branch3x3_2a(three), self.branch3x3_2b(three)], 1),
            torch.cat([self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)], 1),
            self.branch_pool(mean3(x)),
        ]


BLOCKS = [BasicConv2d, A, B, C, D, E, InceptionAux]  # as torchvision's inception_v3 takes them

"""What the generators share: how they begin, their attention stages, and what they return.

Sources: Li et al., "ManiGAN", CVPR 2020, and "Lightweight Generative Adversarial Networks for Text-Guided Image
Manipulation", NeurIPS 2020.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmgan.models.attention import ChannelAttention, SpatialAttention
from tmgan.models.layers import AffineCombination, ConditioningAugmentation, ResidualBlock, UpBlock

IMAGE_SIZES = (64, 128, 256)


class GeneratorOutput(NamedTuple):
    """What a generator returns.

    Attributes:
        image: (B, 3, S, S) in [-1, 1], fp32 or better.
        attention: (B, L, h, w), of its last attention stage; sums to 1 over words.
        mu, logvar: (B, condition_dim), of the conditioning augmentation; None where it is not trained.
        keep_logits: (B, 1, S, S), whose sigmoid is the share of the photo in each pixel, or None.
        smaller: the images of the coarser scales, of S/4 and S/2 (ManiGAN), as `image` otherwise.
    """

    image: Tensor
    attention: Tensor
    mu: Tensor | None
    logvar: Tensor | None
    keep_logits: Tensor | None
    smaller: tuple[Tensor, ...] = ()


def in_order(parts: list[GeneratorOutput], rows: list[Tensor]) -> GeneratorOutput:
    """Outputs for some rows of a batch each, together; attention to fewer words is 0 for the others.

    Args:
        rows: which ones, of each part (n,) int64; together every row once.
    """
    order = torch.cat(rows).argsort()
    length = max(part.attention.shape[1] for part in parts)

    def joined(tensors: list[Tensor | None]) -> Tensor | None:
        return None if tensors[0] is None else torch.cat([tensor for tensor in tensors if tensor is not None])[order]

    attention = [F.pad(part.attention, (0, 0, 0, 0, 0, length - part.attention.shape[1])) for part in parts]
    return GeneratorOutput(
        torch.cat([part.image for part in parts])[order],
        torch.cat(attention)[order],
        joined([part.mu for part in parts]),
        joined([part.logvar for part in parts]),
        joined([part.keep_logits for part in parts]),
        tuple(torch.cat(same)[order] for same in zip(*(part.smaller for part in parts), strict=True)),
    )


def check_arguments(name: str, image_size: int, attention: str) -> None:
    """ValueError for a size or an attention that a generator does not have."""
    if image_size not in IMAGE_SIZES:
        raise ValueError(f"{name}: image_size {image_size} is not supported; use 64, 128 or 256")
    if attention not in ("own", "published"):
        raise ValueError(f"{name}: attention {attention!r} does not exist; use 'own' or 'published'")


def resize_regions(regions: Tensor, size: int) -> Tensor:
    """Nearest neighbour resize of a (B, R, g, g) grid to (B, R, size, size).

    As published: the factor size / g is rounded up to one decimal (17 -> 32: 1.9; 17 -> 64: 3.8), so the source of
    row i is floor(i / 1.9). Integer arithmetic, because i / 1.9 in floating point may fall just below a whole number.
    """
    grid = regions.shape[-1]
    if grid == size:
        return regions
    tenths = -(-10 * size // grid)
    source = torch.arange(size, device=regions.device) * 10 // tenths
    nearest = regions.index_select(2, source).index_select(3, source)
    return nearest.contiguous(memory_format=torch.channels_last)


class Stage(nn.Module):
    """Spatial and channel attention to the words, affine combination with the photo, residual blocks.

    (B, C, size, size) -> (B, 3C, size, size) and the spatial attention map (B, L, size, size).
    """

    def __init__(
        self,
        channels: int,
        size: int,
        word_dim: int,
        photo_channels: int,
        affine_dim: int,
        blocks: int,
        published: bool,
    ):
        super().__init__()
        self.spatial = SpatialAttention(channels, word_dim, as_published=published)
        self.channel = ChannelAttention(size, word_dim, as_published=published)
        self.affine = AffineCombination(3 * channels, photo_channels, affine_dim)
        self.residual = nn.Sequential(*(ResidualBlock(3 * channels) for _ in range(blocks)))

    def forward(self, h: Tensor, photo: Tensor, words: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        by_position, attention = self.spatial(h, words, padding)
        # As published: the channel attention takes the result of the spatial one, not h.
        by_channel, _ = self.channel(by_position, words, padding)
        return self.residual(self.affine(torch.cat([h, by_position, by_channel], dim=1), photo)), attention


class TextStart(nn.Module):
    """How both generators begin: from noise, sentence and the photo's code to (B, channels, size, size), all text.

    A base class, so that its layers have the names that files of weights know them by.

    Args:
        channels, size: of what `begin` returns; 4x4 features with twice the channels per doubling grow to it.
        sentence_dim, code_dim: of the text encoder's sentence and of the photo's code.
        condition_dim, noise_dim: of the conditioning augmentation and of the noise.
    """

    def __init__(self, channels: int, size: int, sentence_dim: int, condition_dim: int, noise_dim: int, code_dim: int):
        super().__init__()
        doublings = size.bit_length() - 3  # from 4 x 4
        self.size, self.start_channels = size, channels << doublings
        start = 16 * self.start_channels
        self.condition = ConditioningAugmentation(sentence_dim, condition_dim)
        self.start = nn.Linear(condition_dim + noise_dim + code_dim, 2 * start, bias=False)
        self.start_norm = nn.BatchNorm1d(2 * start)
        self.grow = nn.Sequential(*(UpBlock(channels << i, channels << (i - 1)) for i in range(doublings, 0, -1)))

    def begin(self, noise: Tensor, sentence: Tensor, eps: Tensor, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """noise (B, noise_dim), sentence (B, sentence_dim), eps (B, condition_dim), code (B, code_dim) ->
        (B, channels, size, size), and mu and logvar (B, condition_dim)."""
        condition, mu, logvar = self.condition(sentence, eps)
        start = self.start(torch.cat([condition, noise, code], dim=1))
        h = F.glu(self.start_norm(start), dim=1).view(-1, self.start_channels, 4, 4)
        return self.grow(h.contiguous(memory_format=torch.channels_last)), mu, logvar

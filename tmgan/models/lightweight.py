"""The generator of Lightweight GAN: edits a photo's features by a sentence, in one pass.

At image_size 256 and width 32, with attention="published", it is the published network exactly. Smaller sizes scale
every resolution and keep the two attention stages at 1/8 and 1/4 of the image size.
Source: Li et al., "Lightweight Generative Adversarial Networks for Text-Guided Image Manipulation", NeurIPS 2020.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmgan.models.attention import ChannelAttention, SpatialAttention
from tmgan.models.encoders.features import ImageFeatures
from tmgan.models.layers import (
    AffineCombination,
    ConditioningAugmentation,
    DownBlock,
    GatedConv,
    ResidualBlock,
    UpBlock,
    conv3,
)
from tmgan.models.precision import at_least_float32


class GeneratorOutput(NamedTuple):
    """What the generator returns.

    Attributes:
        image: (B, 3, S, S) in [-1, 1], fp32 or better.
        attention: (B, L, S/4, S/4), sums to 1 over words.
        mu, logvar: (B, condition_dim).
        keep_logits: (B, 1, S, S), whose sigmoid is the share of the photo in each pixel, or None.
    """

    image: Tensor
    attention: Tensor
    mu: Tensor
    logvar: Tensor
    keep_logits: Tensor | None


def resize_regions(regions: Tensor, size: int) -> Tensor:
    """Nearest neighbour resize of a (B, R, g, g) grid to (B, R, size, size).

    As published: the factor size / g is rounded up to one decimal (17 -> 32 uses 1.9), so the source of row i is
    floor(i / 1.9). Integer arithmetic, because i / 1.9 in floating point may fall just below a whole number.
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


class Generator(nn.Module):
    """Lightweight GAN's generator.

    Args:
        image_size: S, edge of the generated image: 64, 128 or 256.
        width: channels at a quarter of the image size; twice as many at an eighth (published: 32; COCO: 48).
        sentence_dim, word_dim: of the text encoder.
        condition_dim, noise_dim: of the conditioning augmentation and of the noise.
        code_dim, region_dim, perceptual_dim: of the image features.
        residual_blocks: in each of the two stages (published: 2 for birds, 3 for COCO).
        attention: "own" masks every caption's own padding; "published" keeps the published masks (see attention.py).
        keep_input: give the photo a way through. Not published as part of the network: instance normalisation loses
            absolute colour, so a background has to be relearned from features. With this, the last layer also
            predicts keep in [0, 1], and the image is keep * photo + (1 - keep) * painted, as in the composite of the
            paper's Figure 1. It starts near keep = sigmoid(-2) = 0.12: a network that begins by painting learns to
            obey the text sooner than one that begins as a copy.
        affine_dim: hidden channels of the affine combinations (published: 128 at every width). They cost most of
            the arithmetic: a narrow network needs fewer, say 2 * width.
        top_width: channels at the last two resolutions, where nearly all pixels are (published, and None: width).
    """

    def __init__(
        self,
        image_size: int,
        width: int = 32,
        sentence_dim: int = 256,
        word_dim: int = 256,
        condition_dim: int = 100,
        noise_dim: int = 100,
        code_dim: int = 256,
        region_dim: int = 256,
        perceptual_dim: int = 128,
        residual_blocks: int = 2,
        attention: str = "own",
        keep_input: bool = False,
        affine_dim: int = 128,
        top_width: int | None = None,
    ):
        super().__init__()
        if image_size not in (64, 128, 256):
            raise ValueError(f"Generator: image_size {image_size} is not supported; use 64, 128 or 256")
        if attention not in ("own", "published"):
            raise ValueError(f"Generator: attention {attention!r} does not exist; use 'own' or 'published'")
        published = attention == "published"
        self.coarse_size = image_size // 8
        doublings = self.coarse_size.bit_length() - 3  # from 4 x 4
        self.start_channels = 2 * width << doublings
        wide, top = 2 * width, top_width or width

        self.condition = ConditioningAugmentation(sentence_dim, condition_dim)
        start = 16 * self.start_channels
        self.start = nn.Linear(condition_dim + noise_dim + code_dim, 2 * start, bias=False)
        self.start_norm = nn.BatchNorm1d(2 * start)
        self.grow = nn.Sequential(*(UpBlock(wide << i, wide << (i - 1)) for i in range(doublings, 0, -1)))

        self.photo_coarse = GatedConv(region_dim, width)  # S/8
        self.coarse = Stage(wide, image_size // 8, word_dim, width, affine_dim, residual_blocks, published)
        self.up_coarse = UpBlock(3 * wide, width)
        self.photo_fine = DownBlock(perceptual_dim, width)  # S/4
        self.fine = Stage(width, image_size // 4, word_dim, width, affine_dim, residual_blocks, published)
        self.up_fine = nn.Sequential(UpBlock(3 * width, top), UpBlock(top, top))
        self.photo_up = nn.Sequential(UpBlock(width, top), UpBlock(top, top))
        self.affine = AffineCombination(top, top, affine_dim)
        self.to_image = conv3(top, 4 if keep_input else 3)
        self.keep_bias = nn.Parameter(torch.full((), -2.0)) if keep_input else None

    def forward(
        self,
        noise: Tensor,
        sentence: Tensor,
        words: Tensor,
        padding: Tensor,
        eps: Tensor,
        features: ImageFeatures,
        image: Tensor | None = None,
    ) -> GeneratorOutput:
        """Edit the photos that the features describe.

        Args:
            noise: (B, noise_dim), standard normal.
            sentence: (B, sentence_dim).
            words: (B, word_dim, L).
            padding: (B, L) bool, True where there is no word.
            eps: (B, condition_dim), standard normal.
            features: of the photos: regions (B, R, g, g), code (B, C), perceptual (B, P, S/2, S/2).
            image: the photos themselves, (B, 3, S, S) in [-1, 1]; needed with keep_input=True only.

        Raises:
            ValueError: keep_input=True without image.
        """
        condition, mu, logvar = self.condition(sentence, eps)
        start = self.start(torch.cat([condition, noise, features.code], dim=1))
        h = F.glu(self.start_norm(start), dim=1).view(-1, self.start_channels, 4, 4)
        h = self.grow(h.contiguous(memory_format=torch.channels_last))

        photo = self.photo_coarse(resize_regions(features.regions, self.coarse_size))
        h, _ = self.coarse(h, photo, words, padding)
        h = self.up_coarse(h)

        photo = self.photo_fine(features.perceptual)
        h, attention = self.fine(h, photo, words, padding)
        h = self.affine(self.up_fine(h), self.photo_up(photo))

        output = at_least_float32(self.to_image(h))
        if self.keep_bias is None:
            return GeneratorOutput(torch.tanh(output), attention, mu, logvar, None)
        if image is None:
            raise ValueError("Generator: keep_input=True needs the photos; pass image=(B, 3, S, S) in [-1, 1]")
        keep_logits = output[:, 3:] + self.keep_bias
        keep = torch.sigmoid(keep_logits)
        composite = keep * image + (1 - keep) * torch.tanh(output[:, :3])
        return GeneratorOutput(composite, attention, mu, logvar, keep_logits)

"""Our own generator: the photo asks, at every position, what the words say about it. Not in the paper.

Lightweight GAN begins with the text and adds the photo after each attention, so its attention cannot know what is
where. Here a small network that is trained with the rest looks at the photo, and its features attend to the words at
1/8 and at 1/4 of the image size. There is no noise, no sentence code and nothing that is tied to a position.
docs/fidelity.md says what of this matters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tmgan.models.attention import SpatialAttention
from tmgan.models.encoders.features import ImageFeatures
from tmgan.models.layers import AffineCombination, DownBlock, GatedConv, ResidualBlock, UpBlock, conv3
from tmgan.models.precision import at_least_float32
from tmgan.models.stages import GeneratorOutput, check_arguments, resize_regions

_DETAIL_EDGE = 5  # in pixels, of the mean that fine detail is the difference from
_DETAIL_GAIN = 4.0  # fine detail is weak beside features of variance 1


class EditorStage(nn.Module):
    """Features of the photo attend to the words; both are scaled and shifted by the photo.

    (B, C, H, W) -> (B, 2C, H, W) and the attention map (B, L, H, W). Without the affine combination, with a convolution
    of all three, nothing is learned in the same time.
    """

    def __init__(self, channels: int, word_dim: int, photo_channels: int, affine_dim: int, blocks: int):
        super().__init__()
        self.spatial = SpatialAttention(channels, word_dim, own_value=True)
        self.affine = AffineCombination(2 * channels, photo_channels, affine_dim)
        self.residual = nn.Sequential(*(ResidualBlock(2 * channels) for _ in range(blocks)))

    def forward(self, h: Tensor, photo: Tensor, words: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        by_position, attention = self.spatial(h, words, padding)
        return self.residual(self.affine(torch.cat([h, by_position], dim=1), photo)), attention


class EditorGenerator(nn.Module):
    """Edits a photo by words, in one pass.

    Args:
        image_size: S, edge of the generated image: 64, 128 or 256.
        width: channels at a quarter of the image size; twice as many at an eighth.
        word_dim: of the text encoder.
        region_dim, perceptual_dim: of the image features.
        residual_blocks: in each of the two stages.
        affine_dim: hidden channels of the affine combinations.
        top_width: channels at the last two resolutions, where nearly all pixels are; None: width.
        keep_input: as in Lightweight GAN's generator (lightweight.py).
    """

    reads_code = False  # of the image features; the other generators do

    def __init__(
        self,
        image_size: int,
        width: int = 32,
        word_dim: int = 256,
        region_dim: int = 256,
        perceptual_dim: int = 128,
        residual_blocks: int = 0,
        affine_dim: int = 64,
        top_width: int | None = None,
        keep_input: bool = True,
    ):
        check_arguments("EditorGenerator", image_size, "own")
        super().__init__()
        wide, top = 2 * width, top_width or width
        self.size = image_size // 8
        self.photo_regions = GatedConv(region_dim, width)  # at S/8: what the frozen encoder sees there
        self.photo_fine = DownBlock(perceptual_dim, width)  # at S/4
        self.photo_coarse = nn.Sequential(  # at S/8, each with a view of 54 pixels
            DownBlock(width, wide),
            conv3(wide, wide),
            nn.BatchNorm2d(wide),
            nn.LeakyReLU(0.2),
            conv3(wide, width),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
        )
        self.query_coarse = nn.Conv2d(width, wide, 1)
        self.coarse = EditorStage(wide, word_dim, width, affine_dim, residual_blocks)
        self.up_coarse = UpBlock(2 * wide, width)
        self.query_fine = nn.Conv2d(width, width, 1)
        self.fine = EditorStage(width, word_dim, width, affine_dim, residual_blocks)
        self.up_fine = nn.Sequential(UpBlock(2 * width, top), UpBlock(top, top))
        self.photo_up = nn.Sequential(UpBlock(width, top), UpBlock(top, top))
        self.affine = AffineCombination(top, top + 1, affine_dim)
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
        image: Tensor,
    ) -> GeneratorOutput:
        """Edit photos.

        Args:
            noise, sentence, eps: not used; all generators are called alike.
            words: (B, word_dim, L).
            padding: (B, L) bool, True where there is no word.
            features: of the photos: regions (B, R, g, g), perceptual (B, P, S/2, S/2); their code is not used.
            image: the photos, (B, 3, S, S) in [-1, 1].
        """
        fine = self.photo_fine(features.perceptual)
        coarse = self.photo_regions(resize_regions(features.regions, self.size)) + self.photo_coarse(fine)
        h, _ = self.coarse(self.query_coarse(coarse), coarse, words, padding)
        h = self.up_coarse(h) + self.query_fine(fine)
        h, attention = self.fine(h, fine, words, padding)

        photo = self.photo_up(fine)
        photo = torch.cat([photo, fine_detail(image).to(photo.dtype)], 1).contiguous(memory_format=torch.channels_last)
        output = at_least_float32(self.to_image(self.affine(self.up_fine(h), photo)))
        if self.keep_bias is None:
            return GeneratorOutput(torch.tanh(output), attention, None, None, None)
        keep_logits = output[:, 3:] + self.keep_bias
        keep = torch.sigmoid(keep_logits)
        composite = keep * image + (1 - keep) * torch.tanh(output[:, :3])
        return GeneratorOutput(composite, attention, None, None, keep_logits)


def fine_detail(image: Tensor) -> Tensor:
    """The brightness of image (B, 3, S, S) against its mean around each pixel, (B, 1, S, S), times 4.

    Texture, but no colour: what a generator with the photo at full size in its last layer would copy is left out.
    """
    grey = image.mean(1, keepdim=True)
    mean = F.avg_pool2d(grey, _DETAIL_EDGE, 1, _DETAIL_EDGE // 2, count_include_pad=False)
    return _DETAIL_GAIN * (grey - mean)

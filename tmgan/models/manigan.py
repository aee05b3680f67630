"""The generator of ManiGAN's main module: images of three scales, attention to the words at the two larger ones.

At image_size 256 and width 32, with attention="published", it is the published network exactly. Smaller sizes scale
every resolution. Where Lightweight GAN takes VGG features of the photo, it takes the regions alone.
Source: Li et al., "ManiGAN: Text-Guided Image Manipulation", CVPR 2020. Its second stage is in detail_correction.py.
"""

import torch
from torch import Tensor, nn

from tmgan.models.encoders.features import ImageFeatures
from tmgan.models.layers import AffineCombination, GatedConv, UpBlock, conv3
from tmgan.models.precision import at_least_float32
from tmgan.models.stages import GeneratorOutput, Stage, TextStart, check_arguments, resize_regions


class Scale(nn.Module):
    """An image of one scale: features (B, C, H, W), combined with the photo's, -> (B, 3, H, W) in [-1, 1]."""

    def __init__(self, channels: int, affine_dim: int):
        super().__init__()
        self.affine = AffineCombination(channels, channels, affine_dim)
        self.to_image = conv3(channels, 3)

    def forward(self, h: Tensor, photo: Tensor) -> Tensor:
        return torch.tanh(at_least_float32(self.to_image(self.affine(h, photo))))


class MainModule(TextStart):
    """ManiGAN's main module.

    Args:
        image_size: S, edge of the largest image: 64, 128 or 256; the others have S/2 and S/4.
        width: channels at S/4 (published: 32; COCO: 48).
        sentence_dim, word_dim: of the text encoder.
        condition_dim, noise_dim: of the conditioning augmentation and of the noise.
        code_dim, region_dim: of the image features.
        residual_blocks: in each of the two stages (published: 2 for birds, 3 for COCO).
        attention: "own" masks every caption's own padding; "published" keeps the published masks (see attention.py),
            and 5 million weights that no output depends on.
        affine_dim: hidden channels of the affine combinations (published: 128 at every width).
        top_width: channels at S/2 and S, where nearly all pixels are (published, and None: width).
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
        residual_blocks: int = 2,
        attention: str = "own",
        affine_dim: int = 128,
        top_width: int | None = None,
    ):
        check_arguments("MainModule", image_size, attention)
        published, top, half = attention == "published", top_width or width, image_size // 2
        super().__init__(width, image_size // 4, sentence_dim, condition_dim, noise_dim, code_dim)
        self.hidden_dim = top

        self.photo_small = GatedConv(region_dim, width)  # at S/4
        self.middle = Stage(width, self.size, word_dim, width, affine_dim, residual_blocks, published)
        self.up_middle = UpBlock(3 * width, top)
        self.photo_middle = UpBlock(width, top)  # at S/2
        self.large = Stage(top, half, word_dim, top, affine_dim, residual_blocks, published)
        self.up_large = UpBlock(3 * top, top)
        self.photo_large = UpBlock(top, top)  # at S
        self.images = nn.ModuleList(Scale(channels, affine_dim) for channels in (width, top, top))
        if published:  # As published: each channel attention owns the projections of both stages.
            self.middle_unused = nn.Conv1d(word_dim, half * half, 1, bias=False)
            self.large_unused = nn.Conv1d(word_dim, self.size * self.size, 1, bias=False)

    def hidden(
        self, noise: Tensor, sentence: Tensor, words: Tensor, padding: Tensor, eps: Tensor, features: ImageFeatures
    ) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor, Tensor]:
        """All but the images; arguments as in `forward`.

        Returns:
            Features at S/4, S/2 and S; of the photo at S/4 and S/2; attention at S/2, mu, logvar.
        """
        small, mu, logvar = self.begin(noise, sentence, eps, features.code)
        photo_small = self.photo_small(resize_regions(features.regions, self.size))
        # As published: the stages take the features before they are combined with the photo for the image.
        middle = self.up_middle(self.middle(small, photo_small, words, padding)[0])
        photo_middle = self.photo_middle(photo_small)
        large, attention = self.large(middle, photo_middle, words, padding)
        return [small, middle, self.up_large(large)], [photo_small, photo_middle], attention, mu, logvar

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
            features: of the photos: regions (B, R, g, g) and code (B, C); its perceptual features are not used.
            image: not used; every generator can be called alike.
        """
        hidden, photos, attention, mu, logvar = self.hidden(noise, sentence, words, padding, eps, features)
        photos.append(self.photo_large(photos[-1]))
        *smaller, largest = (scale(h, photo) for scale, h, photo in zip(self.images, hidden, photos, strict=True))
        return GeneratorOutput(largest, attention, mu, logvar, None, tuple(smaller))

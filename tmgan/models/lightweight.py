"""The generator of Lightweight GAN: edits a photo's features by a sentence, in one pass.

At image_size 256 and width 32, with attention="published", it is the published network exactly. Smaller sizes scale
every resolution and keep the two attention stages at 1/8 and 1/4 of the image size.
Source: Li et al., "Lightweight Generative Adversarial Networks for Text-Guided Image Manipulation", NeurIPS 2020.
"""

import torch
from torch import Tensor, nn

from tmgan.models.encoders.features import ImageFeatures
from tmgan.models.layers import AffineCombination, DownBlock, GatedConv, UpBlock, conv3
from tmgan.models.precision import at_least_float32
from tmgan.models.stages import GeneratorOutput, Stage, TextStart, check_arguments, resize_regions


class Generator(TextStart):
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
        check_arguments("Generator", image_size, attention)
        published = attention == "published"
        wide, top = 2 * width, top_width or width
        super().__init__(wide, image_size // 8, sentence_dim, condition_dim, noise_dim, code_dim)

        self.photo_coarse = GatedConv(region_dim, width)  # at S/8
        self.coarse = Stage(wide, self.size, word_dim, width, affine_dim, residual_blocks, published)
        self.up_coarse = UpBlock(3 * wide, width)
        self.photo_fine = DownBlock(perceptual_dim, width)  # at S/4
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
        h, mu, logvar = self.begin(noise, sentence, eps, features.code)
        photo = self.photo_coarse(resize_regions(features.regions, self.size))
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

"""The second stage of ManiGAN: a frozen main module, and a detail correction module that paints its features anew.

At image_size 256 and width 32, with attention="published", it is the published network exactly. Smaller sizes scale
every resolution.
Source: Li et al., "ManiGAN: Text-Guided Image Manipulation", CVPR 2020.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tmgan.models.encoders.features import ImageFeatures
from tmgan.models.layers import GatedConv, UpBlock
from tmgan.models.manigan import MainModule, Scale
from tmgan.models.stages import GeneratorOutput, Stage, check_arguments


class DetailCorrection(nn.Module):
    """From the main module's features at full size, and texture of the photo, to the image.

    Args:
        image_size: S, edge of the image: 64, 128 or 256.
        width: channels of the main module's features at full size, its top_width.
        word_dim: of the text encoder.
        perceptual_dim: of the photo's low-level features.
        residual_blocks, attention, affine_dim: as in `MainModule`.
    """

    def __init__(
        self,
        image_size: int,
        width: int = 32,
        word_dim: int = 256,
        perceptual_dim: int = 128,
        residual_blocks: int = 2,
        attention: str = "own",
        affine_dim: int = 128,
    ):
        super().__init__()
        check_arguments("DetailCorrection", image_size, attention)
        self.image_size, self.width = image_size, width
        self.photo = UpBlock(perceptual_dim, width)
        self.stage = Stage(width, image_size, word_dim, width, affine_dim, residual_blocks, attention == "published")
        self.narrow = GatedConv(3 * width, width)
        self.image = Scale(width, affine_dim)

    def forward(self, h: Tensor, perceptual: Tensor, words: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Paint the image.

        Args:
            h: (B, width, S, S), the main module's features.
            perceptual: (B, P, S/2, S/2), of the photos.
            words: (B, word_dim, L).
            padding: (B, L) bool, True where there is no word.

        Returns:
            The image (B, 3, S, S) in [-1, 1], and the attention (B, L, S, S) that sums to 1 over L.
        """
        photo = self.photo(perceptual)
        h, attention = self.stage(h, photo, words, padding)
        return self.image(self.narrow(h), photo), attention


class CorrectedGenerator(nn.Module):
    """The whole ManiGAN: a trained main module, frozen, and the detail correction that is trained on it.

    The main module always runs in eval mode and takes no gradient; its own images are not computed. A deep copy shares
    it, so the averaged generator holds it once.
    """

    def __init__(self, main: MainModule, correction: DetailCorrection):
        super().__init__()
        theirs = (4 * main.size, main.hidden_dim)
        if theirs != (correction.image_size, correction.width):
            raise ValueError(
                f"CorrectedGenerator: the main module paints {theirs[0]} pixels from {theirs[1]} channels, the "
                f"correction {correction.image_size} from {correction.width}; make both alike (its width is the main "
                "module's top_width)"
            )
        self.main, self.correction = main.eval().requires_grad_(False), correction

    def train(self, mode: bool = True) -> CorrectedGenerator:
        super().train(mode)
        self.main.eval()
        return self

    def __deepcopy__(self, memo: dict) -> CorrectedGenerator:
        return CorrectedGenerator(self.main, copy.deepcopy(self.correction, memo)).train(self.training)

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
        """Edit the photos that the features describe; arguments as in `MainModule`, with perceptual features."""
        with torch.no_grad():
            hidden = self.main.hidden(noise, sentence, words, padding, eps, features)[0][-1]
        edit, attention = self.correction(hidden, features.perceptual, words, padding)
        return GeneratorOutput(edit, attention, None, None, None)

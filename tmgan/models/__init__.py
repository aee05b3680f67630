"""The networks: generators, discriminator, and the encoders that turn photos and captions into features."""

from tmgan.models.detail_correction import CorrectedGenerator, DetailCorrection
from tmgan.models.discriminator import Discriminator
from tmgan.models.editor import EditorGenerator
from tmgan.models.encoders import (
    EfficientNetEncoder,
    EfficientNetFeatures,
    ImageFeatures,
    InceptionEncoder,
    PhotoEncoder,
    SmallEncoder,
    TextEncoder,
    VGGFeatures,
)
from tmgan.models.layers import init_frozen, init_weights
from tmgan.models.lightweight import Generator
from tmgan.models.manigan import MainModule
from tmgan.models.stages import GeneratorOutput

__all__ = [
    "CorrectedGenerator",
    "DetailCorrection",
    "Discriminator",
    "EditorGenerator",
    "EfficientNetEncoder",
    "EfficientNetFeatures",
    "Generator",
    "GeneratorOutput",
    "ImageFeatures",
    "InceptionEncoder",
    "MainModule",
    "PhotoEncoder",
    "SmallEncoder",
    "TextEncoder",
    "VGGFeatures",
    "init_frozen",
    "init_weights",
]

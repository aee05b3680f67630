"""The networks: generator, discriminator, and the encoders that turn photos and captions into features."""

from tmgan.models.discriminator import Discriminator
from tmgan.models.encoders import ImageFeatures, InceptionEncoder, PhotoEncoder, SmallEncoder, TextEncoder, VGGFeatures
from tmgan.models.layers import init_frozen, init_weights
from tmgan.models.lightweight import Generator, GeneratorOutput

__all__ = [
    "Discriminator",
    "Generator",
    "GeneratorOutput",
    "ImageFeatures",
    "InceptionEncoder",
    "PhotoEncoder",
    "SmallEncoder",
    "TextEncoder",
    "VGGFeatures",
    "init_frozen",
    "init_weights",
]

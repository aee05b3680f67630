"""The networks of a run and its training step, wired in one place: for training, for measuring, for tests."""

from __future__ import annotations

import torch
from torch import Tensor

from tmgan.config.runtime import Runtime
from tmgan.config.settings import TrainConfig
from tmgan.models.bundle import Encoders, build_generator
from tmgan.models.discriminator import Discriminator
from tmgan.models.encoders import TextEncoder
from tmgan.models.layers import init_weights
from tmgan.models.lightweight import Generator
from tmgan.training.caption_embeddings import CaptionEmbeddings
from tmgan.training.plan import CaptionTable
from tmgan.training.step import Captions, TrainStep, frozen_copy


def build_networks(config: TrainConfig, encoders: Encoders) -> tuple[Generator, Discriminator]:
    """Generator and discriminator on the CPU, channels_last, with the first weights that the run's seed gives."""
    weights = torch.Generator().manual_seed(config.seed)
    generator = build_generator(config.model, encoders)
    discriminator = Discriminator(config.model.image_size, config.model.d_width, encoders.config.dim)
    for network in (generator, discriminator):
        init_weights(network, weights)
        network.to(memory_format=torch.channels_last)
    return generator, discriminator


def embed_captions(text: TextEncoder, table: CaptionTable, images: Tensor, runtime: Runtime) -> CaptionEmbeddings:
    """The captions of some images as a step looks them up: float16 in a bf16 run, which loses no precision there."""
    dtype = torch.float16 if runtime.precision == "bf16" else torch.float32
    return CaptionEmbeddings(text.to(runtime.device), table, images, dtype)


def build_step(
    config: TrainConfig, encoders: Encoders, captions: Captions, runtime: Runtime, backend: str = "inductor"
) -> TrainStep:
    """The training step of a run, before its first update.

    Args:
        captions: what `embed_captions` returns, or a stand-in.
        backend: of torch.compile, for the engines that use it.
    """
    generator, discriminator = build_networks(config, encoders)
    return TrainStep(
        generator.to(runtime.device),
        discriminator.to(runtime.device),
        captions,
        frozen_copy(encoders.photo, runtime),
        config.method,
        config.loss,
        config.optim,
        runtime,
        backend,
    )

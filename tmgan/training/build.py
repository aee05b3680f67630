"""The networks of a run and its training step, wired in one place: for training, for measuring, for tests."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tmgan.config.runtime import Runtime
from tmgan.config.settings import ModelConfig, TrainConfig
from tmgan.data.colour_words import COLOUR_WORDS, are_apart
from tmgan.data.vocabulary import Vocabulary
from tmgan.methods.recolour import ColourTable, Recolour
from tmgan.models.bundle import Encoders, build_generator, init_generator
from tmgan.models.detail_correction import CorrectedGenerator
from tmgan.models.discriminator import Discriminator
from tmgan.models.encoders import TextEncoder
from tmgan.models.layers import init_weights
from tmgan.models.manigan import MainModule
from tmgan.training.caption_embeddings import CaptionEmbeddings
from tmgan.training.plan import CaptionTable
from tmgan.training.step import Captions, TrainStep, frozen_copy


@dataclass(frozen=True)
class FirstWeights:
    """What a run of --from begins with in place of random numbers.

    Attributes:
        generator: one like the run's; or ManiGAN's main module, for its second stage.
        discriminator: state of one like the run's; None: random numbers after all.
    """

    generator: nn.Module
    discriminator: dict[str, Tensor] | None = None


def build_networks(
    config: TrainConfig, encoders: Encoders, first: FirstWeights | None = None
) -> tuple[nn.Module, Discriminator | nn.ModuleList]:
    """Generator and discriminator on the CPU, channels_last, with their first weights.

    Args:
        first: those of a run with --from; what they leave open, or all without them, follows from the run's seed.
    """
    random = torch.Generator().manual_seed(config.seed)
    generator = build_generator(config.model, encoders)
    main: MainModule | None = None
    if first is not None and isinstance(generator, CorrectedGenerator) and isinstance(first.generator, MainModule):
        main = first.generator
    init_generator(generator, random, main)
    discriminator = build_discriminator(config.model, encoders.config.dim)
    init_weights(discriminator, random)
    if first is not None and main is None:
        generator.load_state_dict(first.generator.state_dict())
    if first is not None and first.discriminator is not None:
        discriminator.load_state_dict(first.discriminator)
    for network in (generator, discriminator):
        network.to(memory_format=torch.channels_last)
    return generator, discriminator


def build_discriminator(model: ModelConfig, sentence_dim: int) -> Discriminator | nn.ModuleList:
    """One discriminator, or a list of those of ManiGAN's three scales, the smallest first."""
    if model.architecture != "manigan":
        return Discriminator(model.image_size, model.d_width, sentence_dim)
    sizes = (model.image_size // 4, model.image_size // 2, model.image_size)
    return nn.ModuleList(Discriminator(size, model.d_width, sentence_dim) for size in sizes)


def colour_table(vocabulary: Vocabulary, device: torch.device) -> ColourTable:
    """The colour words of a vocabulary, as `Recolour` needs them.

    Raises:
        ValueError: it has none.
    """
    names = [word for word in vocabulary.words if word in COLOUR_WORDS]
    if not names:
        raise ValueError(
            "No word of the captions is a colour, so nothing can be recoloured and restored by them. Train without: "
            "--method.restore.p 0, and --pretrain.recolour 0 for encoders."
        )
    alike = [[not are_apart(one, other) for other in names] for one in names]
    return ColourTable(
        torch.tensor([vocabulary.words.index(name) for name in names], device=device),
        torch.tensor([COLOUR_WORDS[name] for name in names], device=device) / 127.5 - 1,
        torch.tensor(alike, device=device),
    )


def embed_captions(text: TextEncoder, table: CaptionTable, images: Tensor, runtime: Runtime) -> CaptionEmbeddings:
    """The captions of some images as a step looks them up: float16 in a bf16 run, which loses no precision there."""
    dtype = torch.float16 if runtime.precision == "bf16" else torch.float32
    return CaptionEmbeddings(text.to(runtime.device), table, images, dtype)


def build_step(
    config: TrainConfig,
    encoders: Encoders,
    captions: Captions,
    runtime: Runtime,
    backend: str = "inductor",
    first: FirstWeights | None = None,
) -> TrainStep:
    """The training step of a run, before its first update.

    Args:
        captions: what `embed_captions` returns, or a stand-in.
        backend: of torch.compile, for the engines that use it.
        first: as for `build_networks`.
    """
    generator, discriminator = build_networks(config, encoders, first)
    restore = config.method.restore
    recolour = None
    if restore.p > 0:
        recolour = Recolour(colour_table(encoders.vocabulary, runtime.device))
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
        recolour,
        config.memory,
    )

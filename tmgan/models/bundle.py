"""Trained networks as safetensors files that carry their configuration and vocabulary: no pickle, no second file.

- encoders.safetensors: text and photo encoders, made by `tmgan damsm`.
- generator.safetensors: the averaged generator, made by `tmgan train`.
- discriminator.safetensors: of an import that brought one; a run of `tmgan train` has its own in its checkpoints.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tmgan.common.json_text import parse_json
from tmgan.config.configfile import merge, to_dict
from tmgan.config.settings import EncoderConfig, ModelConfig, TrainConfig
from tmgan.data.vocabulary import Vocabulary
from tmgan.models import weights
from tmgan.models.detail_correction import CorrectedGenerator, DetailCorrection
from tmgan.models.editor import EditorGenerator
from tmgan.models.encoders import (
    B0Trunk,
    EfficientNetEncoder,
    EfficientNetFeatures,
    InceptionEncoder,
    PhotoEncoder,
    SmallEncoder,
    TextEncoder,
    VGGFeatures,
)
from tmgan.models.layers import init_default, init_frozen, init_weights
from tmgan.models.lightweight import Generator
from tmgan.models.manigan import MainModule
from tmgan.models.network_file import altered, entry, filled, read_network, write_network

ENCODERS, GENERATOR = "encoders.safetensors", "generator.safetensors"
DISCRIMINATOR = "discriminator.safetensors"
IMPORTED = "imported"  # the status, in its run.json, of a run of `tmgan import`
RANDOM_VGG = "random-vgg16"  # of an import: the encoders are others' and trained, but not the perceptual features
# What networks hold; in a file, the larger ones come first.
RANDOM_NOTE = "the encoders' ImageNet weights are random numbers; pictures and metrics mean little."


@dataclass(frozen=True)
class Encoders:
    """Text and photo encoders with the vocabulary they are trained on."""

    text: TextEncoder
    photo: PhotoEncoder
    vocabulary: Vocabulary
    config: EncoderConfig
    image_size: int
    weights: str  # third-party weights inside: "pretrained", "random", RANDOM_VGG, or "none" (the small encoder)
    images: int = 0  # trained on
    of: int = 0  # images that their run was to train on; 0: unknown, in files of earlier versions

    @property
    def finished(self) -> bool:
        """False when their training was interrupted and has not gone on."""
        return self.images >= self.of

    @property
    def random_note(self) -> str:
        """What to say about random numbers in place of weights, a sentence; "" where there are none."""
        return random_note(self.weights)

    @property
    def unfinished_note(self) -> str:
        """What to say about unfinished ones, a sentence."""
        return f"the encoders are unfinished: they have seen {self.images:,} of {self.of:,} images."

    def hash(self) -> str:
        """sha256 of all their numbers."""
        return hash_of(self.text, self.photo)


def random_note(weights: str) -> str:
    """`Encoders.random_note`, of `Encoders.weights`."""
    if weights == RANDOM_VGG:
        return "VGG16's weights are random numbers; pictures of generators that see photos through it mean little."
    return RANDOM_NOTE if weights == "random" else ""


def hash_of(*modules: nn.Module) -> str:
    """sha256 of all numbers of some networks, with their names."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def build_encoders(
    config: EncoderConfig,
    image_size: int,
    vocabulary: Vocabulary,
    seed: int,
    pretrained: str = "random",
    weights_dir: str = "",
    batch_statistics: bool = False,
) -> Encoders:
    """New encoders: seeded heads and text encoder, with trunks that are "pretrained" (see weights.py) or "random"."""
    generator = torch.Generator().manual_seed(seed)
    text = TextEncoder(len(vocabulary), dim=config.dim, word_dim=config.word_dim)
    init_weights(text, generator)
    photo = _photo_encoder(config, image_size, batch_statistics)
    matcher, perceptor = photo.matcher, photo.perceptor
    if isinstance(matcher, SmallEncoder) or perceptor is None:
        init_weights(photo, generator)
        return Encoders(text, photo, vocabulary, config, image_size, "none")
    if pretrained == "random":
        init_frozen(matcher.trunk, generator)
        init_frozen(perceptor, generator)
    else:
        keys = ("inception", "vgg16") if config.kind == "inception" else (config.kind, config.kind)
        for network, key in zip((matcher, perceptor), keys, strict=True):
            network.load_trunk(weights.load(key, weights_dir))
    matcher.init_heads(generator)
    return Encoders(text, photo, vocabulary, config, image_size, pretrained)


def _photo_encoder(config: EncoderConfig, image_size: int, batch_statistics: bool = False) -> PhotoEncoder:
    """The photo encoder of this kind, its numbers still to be filled in."""
    if config.kind == "small":
        return PhotoEncoder(SmallEncoder(image_size, dim=config.dim, width=config.width))
    if config.kind == "efficientnet":
        return PhotoEncoder(EfficientNetEncoder(config.dim), EfficientNetFeatures())
    if config.kind == "efficientnet-b0":
        return PhotoEncoder(EfficientNetEncoder(config.dim, B0Trunk), EfficientNetFeatures(B0Trunk))
    return PhotoEncoder(InceptionEncoder(config.dim, batch_statistics), VGGFeatures())


def save_encoders(encoders: Encoders, folder: Path) -> None:
    """Write FOLDER/encoders.safetensors."""
    tensors = {f"text.{k}": v for k, v in encoders.text.state_dict().items()}
    tensors |= {f"photo.{k}": v for k, v in encoders.photo.state_dict().items()}
    about = {
        "encoder": to_dict(encoders.config),
        "image_size": encoders.image_size,
        "images": encoders.images,
        "of": encoders.of,
        "weights": encoders.weights,
        "vocabulary": list(encoders.vocabulary.words),
    }
    write_network(folder / ENCODERS, tensors, about)


def load_encoders(folder: Path) -> Encoders:
    """The encoders of a run of `tmgan damsm` or `tmgan train`, frozen.

    Raises:
        ValueError: the file is missing or damaged; the message says what to do.
    """
    tensors, about = read_network(folder / ENCODERS, "Make encoders with `tmgan damsm --data PACK --run RUN`.")
    path = folder / ENCODERS
    words = entry(about, "vocabulary", list, path)
    size, images, of = (entry(about, name, int, path) for name in ("image_size", "images", "of"))
    config = merge(EncoderConfig(), entry(about, "encoder", dict, path), where=str(path))
    if not all(isinstance(word, str) for word in words):
        raise altered(path, "its vocabulary holds what are no words")
    vocabulary = Vocabulary(tuple(words))

    def build_text() -> nn.Module:
        return TextEncoder(len(vocabulary), dim=config.dim, word_dim=config.word_dim)

    networks = {}
    for name, build in (("text.", build_text), ("photo.", lambda: _photo_encoder(config, size))):
        own = {key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)}
        networks[name] = filled(build, own, path).eval().requires_grad_(False)
    text, photo = networks.values()
    assert isinstance(text, TextEncoder) and isinstance(photo, PhotoEncoder)
    return Encoders(text, photo, vocabulary, config, size, entry(about, "weights", str, path), images, of)


def require_finished(encoders: Encoders, folder: Path, remedy: str = "") -> None:
    """Refuse encoders whose training was interrupted: they would be used in every run to come.

    Args:
        remedy: what else than finishing them the user may do, a sentence.
    """
    if not encoders.finished:
        raise ValueError(
            f"The encoders in {folder} are unfinished: they have seen {encoders.images:,} of {encoders.of:,} images. "
            f"Repeat the `tmgan damsm` command that made them, it goes on where it stopped. {remedy}".rstrip()
        )
    if encoders.of == 0 and _stopped(folder):
        raise ValueError(
            f"The encoders in {folder} are unfinished: their training was stopped after {encoders.images:,} images. "
            f"Repeat the `tmgan damsm` command that made them, it goes on where it stopped. {remedy}".rstrip()
        )


def _stopped(folder: Path) -> bool:
    """Whether a folder of `tmgan damsm` says that it is not done: encoders of earlier versions do not say it."""
    try:
        status = parse_json((folder / "run.json").read_text("utf-8"))["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return status in ("stopped", "failed") and not (folder / GENERATOR).exists()


def build_generator(
    model: ModelConfig, encoders: Encoders
) -> Generator | EditorGenerator | MainModule | CorrectedGenerator:
    """The generator that fits these encoders, with the weights that torch initialises."""
    dim, perceptual_dim = encoders.config.dim, encoders.photo.perceptual_dim
    if model.architecture == "editor":
        return EditorGenerator(
            model.image_size,
            width=model.g_width,
            top_width=model.top_width or None,
            affine_dim=model.affine_dim,
            residual_blocks=model.residual_blocks,
            word_dim=dim,
            region_dim=dim,
            perceptual_dim=perceptual_dim,
            keep_input=model.keep_input,
        )
    stages: dict[str, Any] = {
        "word_dim": dim,
        "residual_blocks": model.residual_blocks,
        "attention": model.attention,
        "affine_dim": model.affine_dim,
    }
    whole: dict[str, Any] = stages | {
        "width": model.g_width,
        "sentence_dim": dim,
        "condition_dim": model.condition_dim,
        "noise_dim": model.noise_dim,
        "code_dim": dim,
        "region_dim": dim,
        "top_width": model.top_width or None,
    }
    if model.architecture == "lightweight":
        return Generator(model.image_size, perceptual_dim=perceptual_dim, keep_input=model.keep_input, **whole)
    main = MainModule(model.image_size, **whole)
    if model.architecture == "manigan":
        return main
    return CorrectedGenerator(
        main, DetailCorrection(model.image_size, main.hidden_dim, perceptual_dim=perceptual_dim, **stages)
    )


def init_generator(generator: nn.Module, random: torch.Generator, main: MainModule | None = None) -> None:
    """The first weights of a training, in place. Every draw comes from `random`.

    Args:
        main: the trained main module of a `CorrectedGenerator`; None: one with first weights, for measuring speed.
    """
    if not isinstance(generator, CorrectedGenerator):
        init_weights(generator, random)
        return
    if main is None:
        init_weights(generator.main, random)
    else:
        generator.main.load_state_dict(main.state_dict())
    init_default(generator.correction, random)


def save_generator(
    generator: nn.Module, config: TrainConfig, vocabulary: Vocabulary, folder: Path, images: int | None
) -> None:
    """Write FOLDER/generator.safetensors with the run's configuration and the hash of its vocabulary.

    Args:
        images: seen in training; None: unknown, of an import.
    """
    write_network(
        folder / GENERATOR,
        generator.state_dict(),
        {"config": to_dict(config), "images": images, "vocabulary_hash": vocabulary.hash},
    )


def load_generator(
    folder: Path, encoders: Encoders
) -> tuple[Generator | EditorGenerator | MainModule | CorrectedGenerator, TrainConfig, int | None]:
    """The averaged generator of a run of `tmgan train` or of an import, the run's configuration, and how many images it
    has seen, None where that is unknown (an import).

    Raises:
        ValueError: the file is missing or damaged, or its vocabulary is not that of the encoders.
    """
    tensors, about = read_network(
        folder / GENERATOR,
        "The command of the run, `tmgan train`, writes it with the first checkpoint, and again when it is repeated.",
    )
    path = folder / GENERATOR
    config = merge(TrainConfig(), entry(about, "config", dict, path), where=str(path))
    if entry(about, "vocabulary_hash", str, path) != encoders.vocabulary.hash:
        raise ValueError(
            f"{path} was trained with another vocabulary than {folder / ENCODERS}. Both "
            "files must come from the same run."
        )
    images = None if about.get("images") is None else entry(about, "images", int, path)
    generator = filled(lambda: build_generator(config.model, encoders), tensors, path)
    return generator, config, images  # type: ignore[return-value]  # it is what build_generator makes


def save_discriminator(state: dict[str, Tensor], model: ModelConfig, folder: Path) -> None:
    """Write FOLDER/discriminator.safetensors.

    Args:
        state: of what `training.build.build_discriminator` makes: a Discriminator, or those of ManiGAN's three scales.
        model: the settings that it fits.
    """
    write_network(folder / DISCRIMINATOR, state, {"model": to_dict(model)})


def load_discriminator(folder: Path) -> dict[str, Tensor] | None:
    """What save_discriminator has written; None where there is no such file.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / DISCRIMINATOR
    return read_network(path, "Import its file again, or remove it.")[0] if path.exists() else None

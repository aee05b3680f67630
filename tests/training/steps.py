"""Training steps of every preset's method, thin enough to run in a test, with random frozen encoders."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import tmgan.models.encoders.inception as inception
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import EncoderConfig, RuntimeConfig, TrainConfig
from tmgan.data.vocabulary import Vocabulary
from tmgan.methods.recolour import DRAWS
from tmgan.models.bundle import Encoders
from tmgan.models.encoders import InceptionEncoder, PhotoEncoder, SmallEncoder, TextEncoder, VGGFeatures
from tmgan.models.layers import init_frozen, init_weights
from tmgan.training.build import build_step
from tmgan.training.loaders.batch import Batch
from tmgan.training.step import TrainStep

EVERYTHING = {
    "method": {
        "keep_mask": "histogram",
        "sharpness": {"weight": 1.0, "labels": "original"},
        "gradient": {"mode": "regions", "losses": "text"},
        "blur": {"sizes": [5, 9], "heads": "both", "skip_below": 1.0},
    }
}
# Compiling takes 5 to 15 s: by default one of each network, and all methods at once.
_BY_DEFAULT = ("quickstart", "everything", "manigan", "manigan-dcm")
PRESETS = [
    *_BY_DEFAULT,
    *(pytest.param(name, marks=pytest.mark.slow) for name in configfile.presets() if name not in _BY_DEFAULT),
]
_DIM, _WORDS, _NOISE, _CONDITION = 16, 6, 4, 8


class Texts:
    """Stands in for CaptionEmbeddings: random words and sentences, one caption per row."""

    def __init__(self, lengths: Tensor):
        generator = torch.Generator().manual_seed(5)
        inside = torch.arange(_WORDS) < lengths[:, None]
        self.words = (torch.rand(len(lengths), _DIM, _WORDS, generator=generator) * 2 - 1) * inside[:, None]
        self.sentences = torch.rand(len(lengths), _DIM, generator=generator) * 2 - 1

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.words[rows], self.sentences[rows]


def thin_published_encoder(monkeypatch: pytest.MonkeyPatch) -> PhotoEncoder:
    """Inception and VGG layer by layer, but on small pictures and with few VGG channels."""
    monkeypatch.setattr(inception, "INPUT_SIZE", 75)
    generator = torch.Generator().manual_seed(1)
    matcher, perceptor = InceptionEncoder(_DIM), VGGFeatures()
    widths = iter([(3, 4), (4, 4), (4, 8), (8, 8)])
    for index in perceptor.layers:
        perceptor.layers[index] = torch.nn.Conv2d(*next(widths), 3, padding=1)
    perceptor.perceptual_dim = 8
    init_frozen(matcher.trunk, generator)
    init_frozen(perceptor, generator)
    matcher.init_heads(generator)
    return PhotoEncoder(matcher, perceptor)


def make(
    preset: str,
    engine: str = "eager",
    rows: int = 4,
    size: int = 64,
    photo: PhotoEncoder | None = None,
    backend: str | Callable = "aot_eager",
    precision: str = "fp32",
    change: Callable[[TrainConfig], TrainConfig] = lambda config: config,
) -> tuple[TrainStep, Batch]:
    """A step of the preset's method ("everything": all of the paper's) and a batch for it; equal in each call."""
    # First, because the weights depend on the number of threads that orthogonalise them.
    runtime = dataclasses.replace(decide(RuntimeConfig(device="cpu", precision=precision, threads=1)), engine=engine)
    config, generator = configfile.from_preset("lightweight"), torch.Generator().manual_seed(0)
    config = configfile.merge(config, EVERYTHING, "test") if preset == "everything" else configfile.from_preset(preset)
    if photo is None:
        photo = PhotoEncoder(SmallEncoder(size, dim=_DIM, width=4))
        init_weights(photo, generator)
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(
            config.model,
            image_size=size,
            g_width=4,
            top_width=0,
            d_width=4,
            affine_dim=8,
            residual_blocks=2,
            condition_dim=_CONDITION,
            noise_dim=_NOISE,
        ),
    )
    config = change(config)
    words = Vocabulary(("<end>", "a", "bird", "red", "blue"))
    encoders = Encoders(TextEncoder(len(words), dim=_DIM), photo, words, EncoderConfig(dim=_DIM), size, "none")

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    lengths, row = torch.tensor([3, 6, 4, 2, 5, 6, 1, 2])[:rows], torch.arange(rows)
    tokens = (torch.arange(_WORDS) < lengths[:, None]).long()
    tokens[:, 0] = torch.tensor([3, 4, 1, 3])[row % 4]
    sizes = config.method.blur.sizes or (1,)
    swaps = config.method.restore.swap > 0
    target_tokens, target_captions = tokens, row
    if swaps:  # red and blue change places
        target_tokens, target_captions = torch.where(tokens >= 3, 7 - tokens, tokens), (row + 1) % rows
    batch = Batch(
        images=(torch.rand(rows, 3, size, size, generator=generator) * 2 - 1).contiguous(
            memory_format=torch.channels_last
        ),
        keep=(noise(rows, 1, size, size) > 0).float() if config.method.stored_masks else None,
        class_ids=row // 2,
        captions=row,
        tokens=tokens,
        lengths=lengths,
        target_class_ids=row // 2,
        target_captions=target_captions,
        target_tokens=target_tokens,
        target_lengths=lengths,
        mismatched=(target_tokens != tokens).any(1) if swaps else row % 2 == 1,
        noise=noise(rows, _NOISE),
        eps=noise(rows, _CONDITION),
        blur_sizes=torch.tensor(sizes)[row % len(sizes)],
        restore=row % 4 != 2 if config.method.restore.p > 0 else None,
        recolour=torch.rand(rows, DRAWS, generator=generator) if config.method.restore.p > 0 else None,
    )
    return build_step(config, encoders, Texts(lengths), runtime, backend), batch


def in_double(step: TrainStep, batch: Batch) -> tuple[TrainStep, Batch]:
    """The same step and batch in float64, in place."""
    for network in (step.generator, step.discriminator, step.photo):
        network.double()
    texts = step.objective.captions
    texts.words, texts.sentences = texts.words.double(), texts.sentences.double()
    columns = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    return step, Batch(
        **{name: x.double() if x is not None and x.is_floating_point() else x for name, x in columns.items()}
    )


def losses_and_gradients(step: TrainStep, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a step computes before any weight moves: its losses, and the gradients of both networks."""
    edit = step.functions.generate(batch)
    step.discriminator.requires_grad_(True)
    total, d_losses = step.functions.d_loss(batch, edit)
    total.backward()
    step.discriminator.requires_grad_(False)
    total, g_losses = step.functions.g_loss(batch, edit)
    total.backward()
    gradients = {
        f"{name}.{key}": p.grad
        for name in ("generator", "discriminator")
        for key, p in getattr(step, name).named_parameters()
        if p.requires_grad or name == "discriminator"  # not a frozen main module's
    }
    return {name: loss.detach() for name, loss in (d_losses | g_losses).items()}, gradients

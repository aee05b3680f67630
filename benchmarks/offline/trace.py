"""The three functions of a training step, compiled on fake tensors of the described card. Knows the project's names."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext

import torch
from torch import Tensor

from tmgan.config import configfile
from tmgan.config.runtime import Runtime
from tmgan.data.colour_words import COLOUR_WORDS
from tmgan.data.vocabulary import Vocabulary
from tmgan.methods.recolour import DRAWS, ColourTable, Recolour
from tmgan.models.bundle import build_encoders
from tmgan.training.build import build_networks, colour_table
from tmgan.training.loaders.batch import Batch
from tmgan.training.step import TrainStep, frozen_copy

from . import outside
from .described import DEVICE, fake, fake_module

GUARD = "guard of the gradients"  # its place in a step is that of TrainStep.parts


class Texts:
    """Stands in for CaptionEmbeddings: its two lookups, in its dtypes."""

    def __init__(self, dim: int, words: int):
        self.words = torch.empty(1000, dim, words, dtype=torch.float16, device=DEVICE)
        self.sentences = torch.empty(1000, dim, dtype=torch.float16, device=DEVICE)

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.words[rows].float(), self.sentences[rows].float()


def _batch(config, size: int, mode) -> Batch:
    def empty(*shape: int, dtype=torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=DEVICE)

    restores = config.method.restore.p > 0
    side, words, ints = config.model.image_size, config.text.words, torch.int64
    images = torch.empty(size, 3, side, side, device="meta").to(memory_format=torch.channels_last)
    return Batch(
        images=fake(images, mode),
        keep=empty(size, 1, side, side) if config.method.stored_masks else None,
        class_ids=empty(size, dtype=ints),
        captions=empty(size, dtype=ints),
        tokens=empty(size, words, dtype=ints),
        lengths=empty(size, dtype=ints),
        target_class_ids=empty(size, dtype=ints),
        target_captions=empty(size, dtype=ints),
        target_tokens=empty(size, words, dtype=ints),
        target_lengths=empty(size, dtype=ints),
        mismatched=empty(size, dtype=torch.bool),
        noise=empty(size, config.model.noise_dim),
        eps=empty(size, config.model.condition_dim),
        blur_sizes=empty(size, dtype=ints),
        word_labels=empty(size, words, dtype=torch.bool),
        restore=empty(size, dtype=torch.bool) if restores else None,
        recolour=empty(size, DRAWS) if restores else None,
    )


def trace(
    preset: str,
    batch: int,
    only_generate: bool,
    mode,
    name: Callable[[str], None],
    change: Callable = lambda config: config,
    around: Callable[[TrainStep, Batch], AbstractContextManager] = lambda step, batch: nullcontext(),
    precision: str = "bf16",
    engine: str = "compiled",
) -> list[dict]:
    """Compile forward and backward of each function.

    Args:
        name: called with the name of the graph that comes next.
        change: of the preset.
        around: called with the step and its batch; what it gives surrounds all that is computed.
        precision: "bf16" or "fp32".
        engine: "eager": nothing is compiled, so that only what is `around` sees anything.

    Returns:
        What lies outside the graphs, as outside.rows gives it.
    """
    start = time.monotonic()

    def begin(graph: str) -> None:
        print(f"# {time.monotonic() - start:5.0f} s: {graph}", file=sys.stderr, flush=True)
        name(graph)

    config = change(configfile.from_preset(preset))
    side = config.model.image_size
    names = tuple(COLOUR_WORDS)
    vocabulary = Vocabulary(("<end>", *names, *(f"w{number}" for number in range(199 - len(names)))))
    encoders = build_encoders(config.encoder, side, vocabulary, 0)
    networks = dict(zip(("generator", "discriminator"), build_networks(config, encoders), strict=True))
    for network in networks.values():
        fake_module(network, mode).train()
    photo = frozen_copy(encoders.photo, Runtime(torch.device("cpu"), precision, engine, 1, False, ()))
    fake_module(photo, mode, torch.bfloat16 if precision == "bf16" else None)
    discriminator = networks["discriminator"]
    named = dataclasses.asdict(colour_table(vocabulary, torch.device("cpu")))
    colours = ColourTable(**{name: fake(tensor, mode) for name, tensor in named.items()})
    with ExitStack() as surroundings:
        surroundings.enter_context(mode)
        data = _batch(config, batch, mode)
        texts = Texts(encoders.config.dim, config.text.words)
        restore = config.method.restore
        step = TrainStep(
            networks["generator"],
            discriminator,
            texts,
            photo,
            config.method,
            config.loss,
            config.optim,
            Runtime(torch.device(DEVICE), precision, engine, 1, False, ()),
            recolour=Recolour(colours) if restore.p > 0 else None,
            memory=config.memory,
        )
        surroundings.enter_context(around(step, data))
        functions, calls = step.functions, outside.Calls()
        if not only_generate:
            with calls.of(GUARD):
                step.guard_g.begin()
                step.guard_d.begin()
        begin("generate forward")
        edit = functions.generate(data)
        if only_generate:
            begin("generate backward")
            outputs = (edit.image, edit.mu, edit.logvar, *edit.smaller)
            sum(output.mean() for output in outputs if output is not None).backward()
        else:  # the order of TrainStep._step
            discriminator.requires_grad_(True)
            begin("discriminator forward")
            total = functions.d_loss(data, edit)[0]
            begin("discriminator backward")
            total.backward()
            del total
            with calls.of(GUARD):
                step.guard_d.check()
            step.adam_d.zero_grad(set_to_none=True)
            discriminator.requires_grad_(False)
            begin("losses of the generator forward")
            total = functions.g_loss(data, edit)[0]
            del edit
            begin("losses of the generator backward")
            total.backward()
            del total
            with calls.of(GUARD):
                step.guard_g.check()
        discriminator.requires_grad_(True)
        begin("outside the graphs")
        share: Tensor | float = 1.0
        if not only_generate:
            with calls.of(GUARD):
                step.guard_g.settle()
                step.guard_d.settle(step.guard_g.skipped)
                share = 1 - step.guard_g.skipped
        with calls.of("average of the generator"):
            step.average(share)
    outside_rows = outside.rows(networks, calls)
    begin("done")
    return outside_rows

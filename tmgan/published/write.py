"""`tmgan export RUN --published`: a run's networks as the files that the published code reads."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tmgan.common.files import new_folder, require_new_folder, user_path, write_atomically, write_bytes
from tmgan.common.progress import say
from tmgan.config.settings import TrainConfig
from tmgan.models import bundle
from tmgan.models.published_names import BLOCKS
from tmgan.published.networks import (
    CORRECTION,
    IMAGE,
    IMAGE_SIZE,
    LIGHTWEIGHT,
    MAIN,
    SCALES,
    TEXT,
    discriminator,
    to_published,
)
from tmgan.training.start import discriminator_of

WORDS_FILE = "vocabulary.pickle"


def export_published(run: str | Path, out: str | Path) -> list[Path]:
    """Write the files that the code of Lightweight GAN and ManiGAN reads, and `import_published` too.

    text_encoder.pth and image_encoder.pth; of an editor netG_epoch_0.pth (for ManiGAN's second stage also
    netC_epoch_0.pth), the averaged weights as published, and the discriminators netD0.pth, ... where the run has them.
    They are plain state dicts in the format of torch before 1.6, which every later one reads too. vocabulary.pickle has
    the four parts of a captions.pickle, but no captions: the code needs that of the data set, with the same words.

    Args:
        run: folder of `tmgan train`, `tmgan damsm` or `tmgan import`.
        out: folder to write to, new or empty.

    Returns:
        The files.

    Raises:
        ValueError: `out` is not empty, or the published code cannot build such networks; the message says why.
    """
    run, out = user_path(run), user_path(out)
    require_new_folder(out)
    if not run.is_dir():
        raise ValueError(f"There is no run folder {run}.")
    encoders = bundle.load_encoders(run)
    _check_encoders(run, encoders)
    matcher = encoders.photo.matcher
    states = {
        "text_encoder.pth": (TEXT, encoders.text.state_dict()),
        "image_encoder.pth": (IMAGE, matcher.state_dict()),
    }
    if (run / bundle.GENERATOR).exists():
        generator, config, _ = bundle.load_generator(run, encoders)
        _check_editor(run, config)
        states |= _generators(generator.state_dict(), config) | _discriminators(discriminator_of(run, say), config)
    words = dict(enumerate(encoders.vocabulary.words))
    with new_folder(out) as folder:
        for name, (kind, state) in states.items():
            published = to_published(state, kind)
            # The old format: the published code runs on torch 1.1, which cannot read the present one.
            write = functools.partial(torch.save, published, _use_new_zipfile_serialization=False)
            write_atomically(folder / name, write, sum(value.nbytes for value in published.values()))
        content = [[], [], words, {word: number for number, word in words.items()}]
        write_bytes(folder / WORDS_FILE, pickle.dumps(content, protocol=2))
    return [out / name for name in (*states, WORDS_FILE)]


def _generators(state: dict[str, Tensor], config: TrainConfig) -> dict[str, tuple[str, dict[str, Tensor]]]:
    architecture = config.model.architecture
    if architecture == "manigan-dcm":
        return {
            name: (kind, {key.removeprefix(part): value for key, value in state.items() if key.startswith(part)})
            for name, kind, part in (
                ("netG_epoch_0.pth", MAIN, "main."),
                ("netC_epoch_0.pth", CORRECTION, "correction."),
            )
        }
    return {"netG_epoch_0.pth": (LIGHTWEIGHT if architecture == "lightweight" else MAIN, state)}


def _discriminators(state: dict[str, Tensor] | None, config: TrainConfig) -> dict[str, tuple[str, dict[str, Tensor]]]:
    if state is None:
        return {}
    if config.model.architecture != "manigan":
        return {"netD0.pth": (discriminator(IMAGE_SIZE), state)}
    return {
        f"netD{number}.pth": (
            discriminator(size),
            {k.removeprefix(f"{number}."): v for k, v in state.items() if k.startswith(f"{number}.")},
        )
        for number, size in enumerate(SCALES)
    }


def _check_encoders(run: Path, encoders: bundle.Encoders) -> None:
    kind = encoders.config.kind
    if kind != "inception":
        raise ValueError(
            f"The encoders of {run} are of kind {kind}, and the published code has only Inception's. Train with those "
            "of `tmgan damsm --encoder.kind inception`."
        )
    _require(run, {"encoder.word_dim": (encoders.config.word_dim, 300)})


def _check_editor(run: Path, config: TrainConfig) -> None:
    """Refuse what the published code has no setting for."""
    model = config.model
    if model.architecture == "editor":
        raise ValueError(
            f"{run} is an editor network of our own (model.architecture editor): nothing published reads it."
        )
    fixed: dict[str, tuple[Any, Any]] = {
        "model.image_size": (model.image_size, IMAGE_SIZE),
        "model.keep_input": (model.keep_input, False),
        "model.affine_dim": (model.affine_dim, 128),
        "model.top_width": (model.top_width or model.g_width, model.g_width),
    }
    _require(run, fixed)
    if model.residual_blocks > BLOCKS:
        raise ValueError(
            f"The generator of {run} has {model.residual_blocks} residual blocks in a stage, more than {BLOCKS}."
        )


def _require(run: Path, fixed: dict[str, tuple[Any, Any]]) -> None:
    wrong = [f"{name} {value} (there: {there})" for name, (value, there) in fixed.items() if value != there]
    if wrong:
        raise ValueError(f"The published code cannot build the networks of {run}: {', '.join(wrong)}.")

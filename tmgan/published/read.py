"""`tmgan import FILE... --out RUN`: files of the published code become a run folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tmgan.common.files import new_folder, require_new_folder, user_path, write_json, write_text
from tmgan.common.version import __version__
from tmgan.config import configfile
from tmgan.config.settings import DamsmConfig, EncoderConfig, ModelConfig, TrainConfig
from tmgan.data.sources.caption_pickle import read_words
from tmgan.data.vocabulary import Vocabulary
from tmgan.models import bundle
from tmgan.models import weights as third_party
from tmgan.models.encoders import InceptionEncoder, PhotoEncoder, TextEncoder, VGGFeatures
from tmgan.models.layers import init_frozen
from tmgan.published.networks import (
    CORRECTION,
    IMAGE,
    IMAGE_SIZE,
    LIGHTWEIGHT,
    MAIN,
    SCALES,
    TEXT,
    Network,
    discriminator,
    recognise,
)
from tmgan.published.state_file import read_state

WORDS = "vocabulary"
_FILES = {TEXT: "text_encoder*.pth", IMAGE: "image_encoder*.pth", WORDS: "captions.pickle of the data set's metadata"}


@dataclass(frozen=True)
class Import:
    """What `import_published` has made.

    Attributes:
        run: its folder.
        files: what each file was taken for.
        architecture: as `model.architecture`; "" where no generator was given, only encoders.
        notes: what whoever uses the run must know, as sentences.
    """

    run: Path
    files: dict[Path, str]
    architecture: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Given:
    """What the files hold, by kind."""

    paths: dict[str, Path]
    networks: dict[str, Network]
    words: tuple[str, ...]


def import_published(
    files: Sequence[str | Path],
    out: str | Path,
    weights: Literal["pretrained", "random"] = "pretrained",
    weights_dir: str = "",
) -> Import:
    """Make a run folder of files that the code of Lightweight GAN, ManiGAN or AttnGAN has published.

    Which network a file holds follows from the names and shapes in it, not from its own name. The run edits as the
    published code does; `load`, `evaluate` and reports work on it, and `configure(from_=...)` trains on from it.

    Args:
        files: text encoder, image encoder and captions.pickle; a generator (netG; for ManiGAN's second stage also
            netC), or else the folder holds encoders; and its discriminators, to train on with.
        out: folder to make.
        weights: "random": random numbers in place of ImageNet's VGG16, which no published file holds.
        weights_dir: where its file is looked for first.

    Raises:
        ValueError: a file is damaged, hostile, none of these, or not of the same training as the others; one is
            missing; or `out` exists.
    """
    if isinstance(files, (str, Path)):
        raise ValueError(f"files is {files!r}; give a list of files.")
    if weights not in ("pretrained", "random"):
        raise ValueError(f"weights is {weights!r}; use 'pretrained' or 'random'.")
    out = user_path(out)
    require_new_folder(out)
    given = _read([user_path(file) for file in files])
    model = _model(given)
    scales = _scales(model)
    whole = _check_discriminators(given, scales)
    encoders = _encoders(given, weights, weights_dir)
    notes = [encoders.random_note] if encoders.random_note else []
    if scales and not whole:
        notes.append("no discriminator was given: training on from this run begins with a new one.")
    with new_folder(out) as folder:
        bundle.save_encoders(encoders, folder)
        config: TrainConfig | DamsmConfig = DamsmConfig(encoder=encoders.config)
        if model is not None:
            config = _settings(model, encoders.config)
            generator = bundle.build_generator(model, encoders)
            generator.load_state_dict(_generator_state(given.networks))
            bundle.save_generator(generator, config, encoders.vocabulary, folder, images=None)
            if whole:
                bundle.save_discriminator(_discriminator_state(given.networks, scales), model, folder)
        write_text(folder / "config.yaml", configfile.to_yaml(config))
        lines = [f"{path}: {kind}" for kind, path in given.paths.items()] + [f"NOTE: {note}" for note in notes]
        stamp = datetime.now().isoformat(timespec="seconds")
        write_text(folder / "log.txt", "".join(f"{stamp} {line}\n" for line in lines))
        files_read = [
            {"file": str(path), "is": kind, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for kind, path in given.paths.items()
        ]
        write_json(
            folder / "run.json",
            {
                "status": bundle.IMPORTED,
                "images": 0,
                "tmgan": __version__,
                "torch": str(torch.__version__),
                "updated": datetime.now(UTC).isoformat(timespec="seconds"),
                "files": files_read,
            },
        )
    kinds = {path: kind for kind, path in given.paths.items()}
    return Import(out, kinds, "" if model is None else model.architecture, tuple(notes))


def _read(paths: list[Path]) -> _Given:
    """Read every file. Each kind may be there once, and all must be of one training."""
    given = _Given({}, {}, ())
    words: tuple[str, ...] = ()
    for path in paths:
        if path.suffix in (".pickle", ".pkl"):
            if not path.is_file():
                raise ValueError(f"{path} is missing.")
            kind, words = WORDS, read_words(path)
        else:
            network = recognise(read_state(path), path)
            kind = network.kind
            given.networks.setdefault(kind, network)
        if given.paths.get(kind) == path:
            raise ValueError(f"{path} is given twice.")
        if kind in given.paths:
            raise ValueError(f"{given.paths[kind]} and {path} are both a {kind}. Give one of them.")
        given.paths[kind] = path
    missing = [file for kind, file in _FILES.items() if kind not in given.paths]
    if missing:
        raise ValueError(
            f"Missing: {', '.join(missing)}. A generator understands only words and pictures as its own "
            "encoders see them: give their files too. docs/published.md says where they are."
        )
    given = replace(given, words=words)
    _check_same_training(given)
    return given


def _check_same_training(given: _Given) -> None:
    """Refuse networks that do not fit each other."""
    rows = given.networks[TEXT].settings["vocabulary_size"]
    if rows != len(given.words):
        raise ValueError(
            f"{given.paths[TEXT]} knows {rows:,} words, {given.paths[WORDS]} has {len(given.words):,}: they are not of "
            "one training. A captions.pickle that was made anew numbers its words otherwise: use the published one."
        )
    dims = {TEXT: 2 * given.networks[TEXT].settings["half_dim"]}
    for kind, network in given.networks.items():
        settings = network.settings
        if kind != TEXT:
            sentence = settings["joint"] - 8 * settings["width"] if "joint" in settings else 0
            dims[kind] = sentence or settings.get("dim") or settings["word_dim"]
    _check_equal(given, "words and sentences of length", dims)
    if CORRECTION in given.networks and MAIN not in given.networks:
        raise ValueError(f"{given.paths[CORRECTION]} corrects ManiGAN's main module: give the file of that (netG) too.")
    if LIGHTWEIGHT in given.networks and MAIN in given.networks:
        raise ValueError(f"{given.paths[LIGHTWEIGHT]} and {given.paths[MAIN]} are two generators. Give one.")
    if CORRECTION in given.networks:
        main, correction = given.networks[MAIN].settings, given.networks[CORRECTION].settings
        _check_equal(given, "channels at full size:", {MAIN: main["top_width"], CORRECTION: correction["width"]})
        for name in ("affine_dim", "residual_blocks"):
            _check_equal(given, f"{name}:", {MAIN: main[name], CORRECTION: correction[name]})
    _check_equal(
        given,
        "channels after the first layer:",
        {kind: given.networks[kind].settings["width"] for kind in map(discriminator, SCALES) if kind in given.networks},
    )


def _check_equal(given: _Given, what: str, values: dict[str, int]) -> None:
    if len(set(values.values())) > 1:
        each = ", ".join(f"{value} in {given.paths[kind]}" for kind, value in values.items())
        raise ValueError(f"The files are not of one training: {what} {each}.")


def _model(given: _Given) -> ModelConfig | None:
    """The settings of the generator, as the shapes of its weights tell them; None without one."""
    kind = next((kind for kind in (LIGHTWEIGHT, MAIN) if kind in given.networks), None)
    if kind is None:
        return None
    sizes = given.networks[kind].settings
    second = CORRECTION in given.networks
    discriminators = [given.networks[k] for k in map(discriminator, SCALES) if k in given.networks]
    model = ModelConfig(
        architecture="lightweight" if kind == LIGHTWEIGHT else "manigan-dcm" if second else "manigan",
        image_size=IMAGE_SIZE,
        g_width=sizes["width"],
        top_width=0 if sizes["top_width"] == sizes["width"] else sizes["top_width"],
        affine_dim=sizes["affine_dim"],
        residual_blocks=sizes["residual_blocks"],
        condition_dim=sizes["condition_dim"],
        noise_dim=sizes["start_inputs"] - sizes["condition_dim"] - sizes["word_dim"],
        attention="published",
    )
    if discriminators:
        return replace(model, d_width=discriminators[0].settings["width"])
    return replace(model, d_width=_preset(model).model.d_width)


def _scales(model: ModelConfig | None) -> tuple[int, ...]:
    """Sizes of the discriminators that a generator is trained with."""
    if model is None:
        return ()
    return SCALES if model.architecture == "manigan" else (IMAGE_SIZE,)


def _check_discriminators(given: _Given, scales: tuple[int, ...]) -> bool:
    """Whether the discriminators of these sizes are there; a part of them, and others, are refused."""
    for size in SCALES:
        if discriminator(size) in given.networks and size not in scales:
            needed = f"discriminators of {_numbers(scales)} pixels" if scales else "a generator"
            raise ValueError(f"{given.paths[discriminator(size)]} is of no use here without {needed}. Leave it out.")
    missing = [size for size in scales if discriminator(size) not in given.networks]
    if missing and len(missing) < len(scales):
        raise ValueError(
            f"Of the discriminators of {_numbers(scales)} pixels, {_numbers(missing)} are missing. Give all, or none."
        )
    return not missing


def _numbers(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))


def _preset(model: ModelConfig) -> TrainConfig:
    """The preset of a published network: that for COCO, if its generator has those sizes."""
    first = model.architecture.removesuffix("-dcm")
    presets = [configfile.from_preset(name) for name in (first, f"{first}-coco")]
    same = (p for p in presets if (p.model.g_width, p.model.residual_blocks) == (model.g_width, model.residual_blocks))
    preset = next(same, presets[0])
    return preset if first == model.architecture else configfile.from_preset(model.architecture, preset)


def _settings(model: ModelConfig, encoder: EncoderConfig) -> TrainConfig:
    return replace(_preset(model), model=model, encoder=encoder)


def _encoders(given: _Given, pretrained: Literal["pretrained", "random"], weights_dir: str) -> bundle.Encoders:
    text, image = given.networks[TEXT], given.networks[IMAGE]
    dim, word_dim = image.settings["dim"], text.settings["word_dim"]
    text_encoder, matcher, perceptor = (
        TextEncoder(len(given.words), dim, word_dim),
        InceptionEncoder(dim),
        VGGFeatures(),
    )
    text_encoder.load_state_dict(text.state)
    matcher.load_state_dict(image.state)
    if pretrained == "random":
        init_frozen(perceptor, torch.Generator().manual_seed(0))
    else:
        perceptor.load_trunk(third_party.load("vgg16", weights_dir))
    return bundle.Encoders(
        text_encoder,
        PhotoEncoder(matcher, perceptor),
        Vocabulary(given.words),
        EncoderConfig(kind="inception", dim=dim, word_dim=word_dim),
        IMAGE_SIZE,
        bundle.RANDOM_VGG if pretrained == "random" else pretrained,
    )


def _generator_state(networks: dict[str, Network]) -> dict[str, Tensor]:
    if CORRECTION not in networks:
        return networks[LIGHTWEIGHT if LIGHTWEIGHT in networks else MAIN].state
    return {
        f"{part}.{key}": value
        for part, kind in (("main", MAIN), ("correction", CORRECTION))
        for key, value in networks[kind].state.items()
    }


def _discriminator_state(networks: dict[str, Network], scales: tuple[int, ...]) -> dict[str, Tensor]:
    if len(scales) == 1:
        return networks[discriminator(scales[0])].state
    return {
        f"{number}.{key}": value
        for number, size in enumerate(scales)
        for key, value in networks[discriminator(size)].state.items()
    }

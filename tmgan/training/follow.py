"""What a run takes from its data where nobody says otherwise: preset, image size, masks, encoders.

Settings come from the preset, then the pack, then files, then flags (cli/parse.py) or arguments (`configure`). A run
that has begun keeps what it began with, also when masks were added to the pack since.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tmgan.common.files import user_path
from tmgan.common.progress import say
from tmgan.config import configfile
from tmgan.config.methods import MASK_PROVIDERS
from tmgan.config.settings import IMAGE_SIZES, DamsmConfig, TrainConfig
from tmgan.data.colour_words import COLOUR_WORDS
from tmgan.data.masks import read_record
from tmgan.data.pack import Pack
from tmgan.models import weights

_FITTING = ("quickstart", "editor", "lightweight")  # what _preset_for names
Notes = dict[str, str]  # setting that was taken from the data -> why, a sentence


def configure(preset: str = "", **settings: Any) -> TrainConfig:
    """Settings for `tmgan.train`: those of a preset, fitted to the data, overridden by yours.

    With `from_` they start from those of that run, and a preset that is named is laid over them.

    >>> import tmgan
    >>> config = tmgan.configure("quickstart", images=800, model={"g_width": 8})
    >>> config.images, config.model.g_width, config.model.image_size
    (800, 8, 64)

    Args:
        preset: its name; "" for the one that fits `data`: quickstart for drawn birds, and without data; for photographs
            editor where the pack has masks and its captions name colours, else lightweight; with `from_`, that of
            the run it names.
        settings: as in a YAML file, sections as dicts; `tmgan train --help` lists them all.

    Raises:
        ValueError: a setting or value is unknown, values do not fit each other, or there is no such pack.
    """
    values = {name.removesuffix("_"): str(v) if isinstance(v, Path) else v for name, v in settings.items()}
    notes: Notes = {}
    data, encoders, run = (str(values.get(name, "")) for name in ("data", "encoders", "run"))
    source = str(values.get("from") or configfile.source_of(run))
    if source:
        base = configfile.started_from(source, preset, run)
    else:
        base, notes = editor_settings(preset, data, encoders, run, _kind_in(values))
    config = configfile.merge(base, values, where="settings")
    say_what_was_taken(notes, base, config)
    return config


def configure_encoders(**settings: Any) -> DamsmConfig:
    """Settings for `tmgan.train_encoders`: fitted to the data, overridden by yours; see `configure`.

    Raises:
        ValueError: as of `configure`.
    """
    values = {name: str(v) if isinstance(v, Path) else v for name, v in settings.items()}
    base, notes = encoder_settings(values.get("data", ""), values.get("run", ""), _kind_in(values))
    config = configfile.merge(base, values, where="settings")
    say_what_was_taken(notes, base, config)
    return config


def editor_settings(preset: str, data: str, encoders: str, run: str, kind: str = "") -> tuple[TrainConfig, Notes]:
    """What the settings of an editor start from: a preset, fitted to the pack; and what was taken from that.

    Args:
        preset: "" for the one that fits.
        data, encoders, run: as in TrainConfig, "" where not given.
        kind: of the encoders, where it is given: then nothing about them follows from the pack.
    """
    before = configfile.begun_with(run, TrainConfig()) if run or not data else _before_on(data, preset)
    if not data:
        return configfile.from_preset(preset or (before.preset if before else "quickstart")), {}
    notes: Notes = {}
    pack, name = Pack.open(user_path(data)), preset or (before.preset if before else "")
    if not name:
        name, reason = _preset_for(pack)
        notes["preset"] = f"Preset {name}: {reason}. Others by --preset."
    config = configfile.from_preset(name)
    if before is not None and before.preset == name:
        return dataclasses.replace(
            config,
            model=dataclasses.replace(config.model, image_size=before.model.image_size),
            method=dataclasses.replace(config.method, keep_mask=before.method.keep_mask),
            encoder=before.encoder,
            pretrain=before.pretrain,
        ), notes
    config, more = _fit(config, pack, own_encoders=not (encoders or kind))
    return config, notes | more


def encoder_settings(data: str, run: str, kind: str = "") -> tuple[DamsmConfig, Notes]:
    """What the settings of `tmgan damsm` start from: as published for photographs, those of quickstart for drawn birds;
    and what was taken from the pack.

    Args:
        data, run: as in DamsmConfig, "" where not given.
        kind: of the encoders, likewise.
    """
    config = DamsmConfig()
    if not data:
        return config, {}
    before = configfile.begun_with(run, config)
    if before is not None:
        return dataclasses.replace(config, encoder=before.encoder, pretrain=before.pretrain), {}
    if kind or Pack.open(user_path(data)).colours is None:
        return config, {}
    small = configfile.from_preset("quickstart")
    note = "Small encoders, as preset quickstart trains them: these are drawn birds. Others by --encoder.kind."
    return dataclasses.replace(config, encoder=small.encoder, pretrain=small.pretrain), {"encoder.kind": note}


def say_what_was_taken(notes: Notes, taken: Any, config: Any) -> None:
    """Say it of those settings that files, flags or arguments have left as they were taken."""
    before, now = configfile.to_dict(taken), configfile.to_dict(config)
    for name, text in notes.items():
        if configfile.setting(before, name) == configfile.setting(now, name):
            say(text)


def masks_of(pack: Pack) -> list[str]:
    """Names of the object masks that a pack has, its true ones first. Damaged ones are left out."""
    names = [] if pack.masks is None else ["dataset"]
    for name in MASK_PROVIDERS:
        try:
            names += [] if read_record(pack, name) is None else [name]
        except ValueError:
            continue
    return names


def _preset_for(pack: Pack) -> tuple[str, str]:
    """The preset for a pack, and why."""
    masks = masks_of(pack)
    if pack.colours is not None:
        return "quickstart", f"{pack.path} holds drawn birds"
    if not COLOUR_WORDS.keys() & set(pack.vocabulary.words):
        return "lightweight", f"no caption in {pack.path} names a colour"
    if not masks:
        return "lightweight", f"{pack.path} has no masks of the objects"
    return "editor", f"{pack.path} holds photographs with masks of their objects"


def _fit(config: TrainConfig, pack: Pack, own_encoders: bool) -> tuple[TrainConfig, Notes]:
    """A preset with what a pack has in place of what it has not."""
    notes: Notes = {}
    size, masks, drawn = pack.image_size, masks_of(pack), pack.colours is not None
    if size in IMAGE_SIZES and size != config.model.image_size:
        notes["model.image_size"] = f"model.image_size {size}: that of {pack.path}."
        config = configfile.merge(config, {"model": {"image_size": size}}, str(pack.path))
    if config.method.keep_mask == "dataset" and masks and masks[0] != "dataset":
        notes["method.keep_mask"] = f"method.keep_mask {masks[0]}: {pack.path} has no true masks."
        config = configfile.merge(config, {"method": {"keep_mask": masks[0]}}, str(pack.path))
    other = ""
    if own_encoders and drawn and config.encoder.kind != "small":
        other, reason = "quickstart", "these are drawn birds"
    elif own_encoders and config.encoder.kind == "inception" and weights.find("efficientnet") is not None:
        other, reason = "editor", "none are given with --encoders; those of the paper are trained by `tmgan damsm`"
    if other:
        others, pretrain = configfile.from_preset(other), config.pretrain
        notes["encoder.kind"] = f"encoder.kind {others.encoder.kind}, trained as in preset {other}: {reason}."
        # Captions and photos with colours swapped are a part of the method, not of the others.
        pretrain = dataclasses.replace(
            others.pretrain, hard_negatives=pretrain.hard_negatives, recolour=pretrain.recolour
        )
        config = dataclasses.replace(config, encoder=others.encoder, pretrain=pretrain)
    return config, notes


def _kind_in(values: dict[str, Any]) -> str:
    section = values.get("encoder")
    return str(section.get("kind", "")) if isinstance(section, dict) else ""


def _before_on(data: str, preset: str) -> TrainConfig | None:
    """The settings of a run on a pack that has begun in the folder that a run has by default."""
    for name in (preset,) if preset else _FITTING:
        before = configfile.begun_with(f"runs/{name}", TrainConfig())
        if before is not None and before.data and user_path(before.data).resolve() == user_path(data).resolve():
            return before
    return None

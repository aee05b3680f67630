"""What a run of --from begins with: networks and encoders of another run or of an import.

Its first command alone reads them: from its first checkpoint on, the run has all that it needs in its own folder. Only
the second stage of ManiGAN looks whether its main module is still the one that it began with.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tmgan.common.files import user_path
from tmgan.config import configfile
from tmgan.config.settings import TrainConfig
from tmgan.models import bundle
from tmgan.training.build import FirstWeights, build_discriminator
from tmgan.training.checkpoint import checkpoints_in, newest_of

_CHANGES_NO_WEIGHTS = ("attention",)  # of model.*; in ManiGAN the published one has weights of its own
PLACES = ("data", "run", "encoders", "from", "allow_unfinished")  # settings that say where things are


@dataclass(frozen=True)
class Start:
    """What begins, or goes on, in the folder of a run with --from."""

    encoders: bundle.Encoders
    weights: FirstWeights | None = None  # None: those of the run's own checkpoint are all that is needed
    record: dict[str, Any] | None = None  # for run.json; None when the run has begun before
    lines: tuple[str, ...] = ()  # of the log: what it begins with, and what was changed
    second_stage: bool = False  # of ManiGAN, which takes a main module and nothing else
    notes: tuple[str, ...] = ()  # what is unfinished, or new, as sentences


def start_of(config: TrainConfig, folder: Path) -> Start | None:
    """What a run begins with in `folder`; None for a run without --from. Nothing is written.

    Raises:
        ValueError: the settings, or what lies in the folder of --from, do not allow it; the message says what to do.
    """
    if not config.from_:
        if config.model.architecture == "manigan-dcm":
            raise ValueError(
                "Preset manigan-dcm is the second stage of ManiGAN: it needs a finished main module, --from RUN. Train "
                "one with --preset manigan."
            )
        return None
    source = user_path(config.from_)
    if source.resolve() == folder.resolve():
        raise ValueError(
            f"--from {source}: a run does not begin with itself. Choose another folder for the new one, --run NEW; to "
            f"train {source} further, leave --from out and ask for more --images."
        )
    if config.encoders:
        raise ValueError(f"--encoders is of no use with --from: the encoders are those of {source}.")
    if not config.data:
        raise ValueError(f"{source} has no photos of its own to train on: say which with --data PACK.")
    if not user_path(config.data).exists() and user_path(config.data).is_relative_to(source):
        raise ValueError(
            f"{config.data} is not there, where {source} had its birds. If that run was moved, name its new place: "
            "--from RUN."
        )
    begun = bool(checkpoints_in(folder / "checkpoints"))
    if begun:
        if _is_second_stage(config, source):
            with suppress(ValueError):  # damaged since, or trained further and unfinished: then it is not needed
                return _read(config, source, begun)
        own = folder if (folder / bundle.ENCODERS).exists() else source
        encoders = bundle.load_encoders(own)
        return Start(encoders, notes=() if encoders.finished else (encoders.unfinished_note,))
    return _read(config, source, begun)


def _is_second_stage(config: TrainConfig, source: Path) -> bool:
    """Whether the detail correction of `config` goes on from a main module. False if nobody can tell any more."""
    with suppress(ValueError):
        there = configfile.settings_of(source).model.architecture
        return config.model.architecture == "manigan-dcm" and there == "manigan"
    return False


def _read(config: TrainConfig, source: Path, begun: bool) -> Start:
    """What lies in the folder of --from."""
    _require_files(source)
    encoders = bundle.load_encoders(source)
    if not config.allow_unfinished:
        bundle.require_finished(encoders, source, "Or take them as they are with --allow-unfinished.")
    generator, theirs, images = bundle.load_generator(source, encoders)
    second = config.model.architecture == "manigan-dcm" and theirs.model.architecture != "manigan-dcm"
    if second:
        configfile.require_first_stage(theirs, source)
    _require_same_network(config, theirs, source, second)
    notes = [] if encoders.finished else [encoders.unfinished_note]
    what = "main module" if second else "editor"
    if images is not None and images < theirs.images:
        note = f"the {what} is unfinished: it has seen {images:,} of {theirs.images:,} images."
        if not config.allow_unfinished:
            raise ValueError(
                f"In {source} {note} Repeat the command that trains it, it goes on where it stopped. Or take it as it "
                "is with --allow-unfinished."
            )
        notes.append(note)
    if second and begun:
        return Start(encoders, FirstWeights(generator), second_stage=True, notes=tuple(notes))

    digest = bundle.hash_of(generator)
    seen = "" if images is None else f", after {images:,} images"
    line = f"Begins with the {what} of {source}{seen} (sha256 {digest[:12]})"
    lines: list[str] = []
    state: dict[str, Tensor] | None = None
    if not second:
        state, origin = _discriminator(source, lines.append)
        if state is None:
            notes.append(f"{source} has no discriminator: this run begins with a new one, which knows nothing yet.")
        else:
            _require_fits(state, theirs, encoders.config.dim, origin)
            line += f" and the discriminator in {origin}"
    lines.append(f"{line}.")
    if not second:  # its preset says what it changes
        lines += _changes(config, theirs)
    record = {"run": str(source), "images": images, "sha256": digest}
    return Start(encoders, FirstWeights(generator, state), record, tuple(lines), second, tuple(notes))


def _require_files(source: Path) -> None:
    """Refuse a folder without the two files of an editor."""
    if not source.is_dir():
        raise ValueError(
            f"There is no run in {source}: no such folder. --from takes one of `tmgan train` or an import."
        )
    for name in (bundle.GENERATOR, bundle.ENCODERS):
        if not (source / name).exists():
            raise ValueError(
                f"{source} holds no {name}: it has not reached its first checkpoint, or the file was lost. Repeat the "
                "command that trains it: it goes on where it stopped, and writes the file."
            )


def _require_same_network(config: TrainConfig, theirs: TrainConfig, source: Path, second: bool) -> None:
    """Refuse settings of the networks that would change the shapes of their weights."""
    model = replace(config.model, architecture=theirs.model.architecture) if second else config.model
    there, here = configfile.to_dict(theirs.model), configfile.to_dict(model)
    may_change = () if theirs.model.architecture.startswith("manigan") else _CHANGES_NO_WEIGHTS
    names = [name for name in configfile.differences(there, here) if name not in may_change]
    if names:
        values = ", ".join(f"model.{name} {there[name]} there, {here[name]} here" for name in names)
        raise ValueError(
            f"The network in {source} is another one: {values}. Leave these settings out, and a preset that has them: "
            "they are taken from that run."
        )


def _changes(config: TrainConfig, theirs: TrainConfig) -> list[str]:
    """The settings that are not those of the run that this one begins with, as lines of the log."""
    there, here = configfile.to_dict(theirs), configfile.to_dict(config)
    names = [name for name in configfile.differences(there, here) if name not in PLACES]
    return [f"  {n} {configfile.setting(here, n)} (there: {configfile.setting(there, n)})" for n in names]


def discriminator_of(run: Path, log: Callable[[str], None]) -> dict[str, Tensor] | None:
    """The discriminator of a run, or of an import that brought one, as state of `build_discriminator`.

    The newest checkpoint that can be read has it, else discriminator.safetensors; None where there is neither.

    Args:
        log: is told of checkpoints that are damaged.

    Raises:
        ValueError: discriminator.safetensors is damaged, or another version of tmgan wrote the checkpoint.
    """
    return _discriminator(run, log)[0]


def _discriminator(run: Path, log: Callable[[str], None]) -> tuple[dict[str, Tensor] | None, str]:
    """It, and the file that it is from."""
    files = checkpoints_in(run / "checkpoints")
    checkpoint = newest_of(files, log)
    if checkpoint is not None and "discriminator" in checkpoint.get("task", {}):  # encoders have none
        return checkpoint["task"]["discriminator"], f"its checkpoint of {checkpoint['images']:,} images"
    return bundle.load_discriminator(run), str(run / bundle.DISCRIMINATOR)


def _require_fits(state: dict[str, Tensor], theirs: TrainConfig, sentence_dim: int, origin: str) -> None:
    """Refuse the weights of another discriminator than the one that a run's settings make."""
    with torch.device("meta"):
        expected = build_discriminator(theirs.model, sentence_dim).state_dict()
    shapes, needed = ({name: tuple(x.shape) for name, x in one.items()} for one in (state, expected))
    if shapes != needed:
        wrong = sorted(name for name in shapes.keys() | needed.keys() if shapes.get(name) != needed.get(name))
        raise ValueError(
            f"The discriminator in {origin} does not fit the settings of its run ({wrong[0]} is "
            f"{shapes.get(wrong[0], 'missing')}, expected {needed.get(wrong[0], 'nothing')}): it was altered, or is of "
            "another model. Import it again, or take the file away: training then begins with a new one."
        )

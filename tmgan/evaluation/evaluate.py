"""Measure a trained editor on held-out photos: `tmgan.evaluate(run) -> Evaluation`.

    protocol = tmgan.Protocol(metrics=("mask_score", "sharpness"), count=200)
    first, second = (tmgan.evaluate(run, "packs/cub", protocol) for run in runs)
    first["mask_score/dataset"].value                # the number; .low and .high: its 95% interval; .n: images
    first["mask_score/dataset"].values               # one per image, in the order of first.images
    tmgan.difference(first["sharpness"], second["sharpness"])  # .change: its interval; .verdict: better, worse, ...
    first.save(path); Evaluation.load(path)          # JSON, with everything above in it

docs/metrics.md lists the measures of each metric; the slash is followed by the mask a measure was scored under, or by
the protocol of a FID. Every model is scored under every available mask, since a model looks best under the mask it was
trained with. A metric that cannot be measured here, because weights, photos or something in the pack are missing, is
left out with its reason in `skipped`, and so are stored masks that are damaged; requested by name it is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tmgan.common.files import user_path, write_json
from tmgan.common.json_text import parse_json
from tmgan.common.progress import Progress
from tmgan.common.text import columns, console_number, edited_photos
from tmgan.data.pack import Pack
from tmgan.editing.editor import Editor, load
from tmgan.evaluation.metrics.checkerboard import Checkerboard
from tmgan.evaluation.metrics.clip import ClipDirection
from tmgan.evaluation.metrics.colour_accuracy import ColourAccuracy, drawn
from tmgan.evaluation.metrics.colour_words import ColourWords, names_colours, object_mask
from tmgan.evaluation.metrics.distances import Distances, InceptionScores
from tmgan.evaluation.metrics.edits import make_edits, make_pairs, mask_notes, require_masks
from tmgan.evaluation.metrics.lpips import LpipsOutside
from tmgan.evaluation.metrics.manipulation import ManipulativePrecision, RelativeManipulativePrecision
from tmgan.evaluation.metrics.measure import Measure
from tmgan.evaluation.metrics.metric import Metric
from tmgan.evaluation.metrics.pattern_accuracy import PatternAccuracy, patterned
from tmgan.evaluation.metrics.per_image import MaskScore, Preserved, Sharpness
from tmgan.evaluation.metrics.r_precision import EditsFound
from tmgan.evaluation.protocol import METRICS, Protocol
from tmgan.models.bundle import build_generator, init_generator
from tmgan.models.detail_correction import CorrectedGenerator
from tmgan.models.stages import GeneratorOutput


@dataclass(frozen=True)
class Evaluation(Mapping[str, Measure]):
    """The measures of one model by name, with what they were measured on.

    Attributes:
        images: the photos' names, in the order of every measure's values but those of colour_accuracy and
            pattern_accuracy, which have tests of their own.
        notes: what a reader must know about all measures.
        skipped: why a metric was left out, by its name; stored masks that were left out are "masks NAME".
    """

    protocol: Protocol
    measures: dict[str, Measure]
    images: tuple[str, ...]
    pack_hash: str
    notes: tuple[str, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Measure:
        return self.measures[name]

    def __iter__(self):
        return iter(self.measures)

    def __len__(self) -> int:
        return len(self.measures)

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "protocol": dataclasses.asdict(self.protocol),
            "pack_hash": self.pack_hash,
            "measures": {name: measure.to_json() for name, measure in self.measures.items()},
            "images": list(self.images),
            "notes": list(self.notes),
            "skipped": self.skipped,
        }

    @classmethod
    def from_json(cls, about: dict[str, Any]) -> Evaluation:
        """The inverse of `to_json`."""
        protocol: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about["protocol"].items()}
        measures = {name: Measure.from_json(measure) for name, measure in about["measures"].items()}
        return cls(
            Protocol(**protocol),
            measures,
            tuple(about["images"]),
            about["pack_hash"],
            tuple(about["notes"]),
            about["skipped"],
        )

    def save(self, path: Path) -> None:
        """Write to_json() to a file, completely or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            ValueError: when it is missing or something else.
        """
        try:
            return cls.from_json(parse_json(Path(path).read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} holds no evaluation of this version of tmgan ({error}).") from None


Build = Callable[[Editor, Pack, Protocol], Metric]

# Which metrics a class measures, and how it is built when one of them is requested; ValueError when it cannot be
# measured here.
_BUILDERS: tuple[tuple[tuple[str, ...], Build], ...] = (
    (
        ("colour_accuracy",),
        lambda editor, pack, protocol: ColourAccuracy(editor, pack, protocol.count, protocol.seed, protocol.batch),
    ),
    (("colour_words",), lambda editor, pack, protocol: ColourWords(pack, protocol.masks)),
    (
        ("pattern_accuracy",),
        lambda editor, pack, protocol: PatternAccuracy(editor, pack, protocol.count, protocol.seed, protocol.batch),
    ),
    (("mask_score",), lambda editor, pack, protocol: MaskScore()),
    (("sharpness",), lambda editor, pack, protocol: Sharpness()),
    (("checkerboard",), lambda editor, pack, protocol: Checkerboard()),
    (("preserved",), lambda editor, pack, protocol: Preserved()),
    (("mp_damsm",), lambda editor, pack, protocol: ManipulativePrecision(editor)),
    (("rmp_damsm",), lambda editor, pack, protocol: RelativeManipulativePrecision(editor)),
    (("r_precision",), lambda editor, pack, protocol: EditsFound(editor, pack, protocol)),
    (
        ("fid", "kid"),
        lambda editor, pack, protocol: Distances(
            editor, pack, protocol.split, protocol.count, protocol.weights, protocol.weights_dir, protocol.batch
        ),
    ),
    (
        ("inception_score",),
        lambda editor, pack, protocol: InceptionScores(editor, protocol.weights, protocol.weights_dir),
    ),
    (("lpips",), lambda editor, pack, protocol: LpipsOutside(editor, protocol.weights, protocol.weights_dir)),
    (("clip",), lambda editor, pack, protocol: ClipDirection(editor, protocol.clip, protocol.captions)),
)
assert tuple(name for names, _ in _BUILDERS for name in names) == METRICS, "the names of protocol.py, in their order"


@torch.no_grad()
def evaluate(
    run: str | Path | Editor,
    data: str | Path | Pack | None = None,
    protocol: Protocol | None = None,
    show: Progress | None = None,
    own: Sequence[Metric] = (),
) -> Evaluation:
    """Measure one model on held-out photos.

    >>> import tmgan
    >>> protocol = tmgan.Protocol(metrics=("sharpness",), count=3)
    >>> sharpness = tmgan.evaluate("runs/quickstart", "packs/birds", protocol)["sharpness"]
    >>> sharpness.n, sharpness.unit, sharpness.low < sharpness.value < sharpness.high
    (3, 'levels of 255', True)

    Args:
        run: run folder of `tmgan train`, or an editor, which need not come from a run: see `baselines`.
        data: pack to measure on; None: the one the run was trained on.
        protocol: what is measured and how; None: everything that can be measured here, on 1,000 photos.
        show: progress; None: a bar on a terminal.
        own: metrics of your own, each for one evaluation; measured beside those of the protocol.

    Raises:
        ValueError: when there is no such run or pack, when the pack's images are of another size, or when a metric or
            mask that is requested by name is not available.
        FloatingPointError: when an edit is not finite.
    """
    editor = run if isinstance(run, Editor) else load(run)
    pack = data if isinstance(data, Pack) else pack_of(editor, data)
    protocol, show = protocol or Protocol(), show or Progress()
    masks, unfit = require_masks(pack, protocol.masks)
    pairs = make_pairs(pack, protocol.split, protocol.count, protocol.captions, protocol.seed)
    metrics, skipped = _build(editor, pack, protocol)
    metrics += [(metric, []) for metric in own]
    observers = [metric for metric, _ in metrics if metric.sees_edits]
    if observers:
        with show.bar("photos", len(pairs)):
            for batch in make_edits(editor, pack, pairs, masks, protocol.seed, protocol.batch):
                for metric in observers:
                    metric.add(batch)
                show.advance(len(batch.texts))
    measures: dict[str, Measure] = {}
    for metric, names in metrics:
        with _left_out(names, protocol, skipped):
            measures |= metric.measures(show)
    return Evaluation(
        protocol,
        measures,
        tuple(pack.names[int(i)] for i in pairs.image),
        pack.hash,
        tuple(mask_notes(pack, masks)),
        skipped | {f"masks {name}": reason for name, reason in unfit.items()},
    )


def pack_of(editor: Editor, data: str | Path | None = None) -> Pack:
    """The pack to measure an editor on: `data`, or the one that its run was trained on.

    Raises:
        ValueError: it is not there, or holds images of another size; or nothing says which it is.
    """
    drawn = editor.run and editor.run / "drawn" / "pack"
    data = data or editor.config.data or (drawn if drawn and drawn.exists() else None)
    if not data:
        what = (
            f"{editor.run} does not say what it was trained on"
            if editor.run
            else "This editor comes from no run folder"
        )
        raise ValueError(f"{what}, so nothing says what to measure it on: give a pack (--data PACK).")
    return Pack.open(user_path(data), editor.image_size)


def _build(editor: Editor, pack: Pack, protocol: Protocol) -> tuple[list[tuple[Metric, list[str]]], dict[str, str]]:
    """The metrics that can be measured here, with their names, and why the others cannot, by name."""
    metrics: list[tuple[Metric, list[str]]] = []
    skipped: dict[str, str] = {}
    for names, build in _BUILDERS:
        selection = [name for name in names if name in (protocol.metrics or METRICS)]
        if selection:
            with _left_out(selection, protocol, skipped):
                metrics.append((build(editor, pack, protocol), selection))
    return metrics, skipped


@contextmanager
def _left_out(names: list[str], protocol: Protocol, skipped: dict[str, str]) -> Iterator[None]:
    """A ValueError inside is the reason why these metrics are left out, or is raised if metrics were requested."""
    try:
        yield
    except ValueError as error:
        if protocol.metrics:
            raise
        skipped |= dict.fromkeys(names, str(error))


def quick_protocol(pack: Pack, count: int) -> Protocol:
    """What is quick enough to be measured while training: a few held-out photos (training ones where none are held
    out), and no network but the run's own."""
    obeys = [
        ("colour_accuracy", drawn(pack)),
        ("pattern_accuracy", patterned(pack)),
        ("colour_words", not drawn(pack) and object_mask(pack, ()) is not None and names_colours(pack)),
    ]
    names = (
        *(name for name, here in obeys if here),
        "mask_score",
        "sharpness",
        "checkerboard",
        "preserved",
        "mp_damsm",
    )
    return Protocol(metrics=names, count=count, split="test" if len(pack.test) > 1 else "train")


class _InputCopied(Editor):
    """An editor that leaves every photo as it is."""

    def edit_tensors(self, images: Tensor, texts: list[str], seed: int = 0, strength: float = 1.0) -> GeneratorOutput:
        empty = images.new_zeros(0)
        return GeneratorOutput(images.to(self.runtime.device), empty, empty, empty, None)


def baselines(editor: Editor) -> dict[str, Editor]:
    """What to read a number against: the same network before training, and a copy of the input."""
    untrained = build_generator(editor.config.model, editor.encoders)
    main = editor.generator.main if isinstance(editor.generator, CorrectedGenerator) else None
    init_generator(untrained, torch.Generator().manual_seed(editor.config.seed), main)
    return {
        "untrained": Editor(untrained, editor.encoders, editor.config, editor.runtime),
        "input copied": _InputCopied(editor.generator, editor.encoders, editor.config, editor.runtime),
    }


def table(evaluations: dict[str, Evaluation]) -> str:
    """Measures (rows) of models (columns) as text for the console and the log, with intervals of the first model."""
    first = next(iter(evaluations.values()))
    rows = [["", *evaluations, "95% interval", "n", "unit"]]
    for name, measure in first.items():
        # A metric may have been left out for another model.
        cells = [console_number(each[name].value) if name in each else "-" for each in evaluations.values()]
        low, high = measure.low, measure.high
        interval = "" if low is None or high is None else f"{console_number(low)} to {console_number(high)}"
        arrow = {"lower": " (lower is better)", "higher": " (higher is better)", "": ""}[measure.better]
        rows.append([name, *cells, interval, str(measure.n), measure.unit + arrow])
    return columns(rows)


def describe(evaluation: Evaluation) -> str:
    """How the numbers were measured, what to know when reading them, and what is missing, as lines of text."""
    protocol = evaluation.protocol
    photos = edited_photos(len(evaluation.images), protocol.split, protocol.captions, protocol.seed)
    lines = [f"{photos}; 95% intervals by bootstrap over photos."]
    notes = dict.fromkeys([*evaluation.notes, *(m.note for m in evaluation.values() if m.note)])
    lines += [f"NOTE: {note}" for note in notes]
    for reason in dict.fromkeys(evaluation.skipped.values()):
        names = [name for name, why in evaluation.skipped.items() if why == reason]
        lines.append(f"Not measured: {', '.join(names)}. {reason}")
    return "\n".join(lines)

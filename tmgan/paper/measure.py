"""Measures each run once, by tmgan.evaluation.evaluate, and compares runs photo by photo.

With several seeds a photo's value is its mean over the seeds; intervals are bootstraps over the photos. They tell
how certain the numbers are for other photos, and nothing about other seeds: so each seed's own difference is given too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from tmgan.common.files import write_json
from tmgan.config.settings import RuntimeConfig
from tmgan.data.crops import centre_crops
from tmgan.data.pack import Pack
from tmgan.editing.editor import Editor, load
from tmgan.evaluation.evaluate import Evaluation, evaluate
from tmgan.evaluation.metrics.edits import make_edits, make_pairs
from tmgan.evaluation.metrics.fid import frechet_distance
from tmgan.evaluation.metrics.measure import Comparison, Measure, compare
from tmgan.evaluation.metrics.moments import Moments
from tmgan.evaluation.protocol import Protocol
from tmgan.models.bundle import GENERATOR

CODES = "code_distance"
_CODES_NOTE = (
    "Frechet distance between the codes of photos and edits by the run's own small photo encoder, a "
    "stand-in for FID where its network is not at hand. It is no FID."
)
_FILE = "tables.json"  # beside the run's other files


def evaluation_of(run: Path, pack: Pack, protocol: Protocol, runtime: RuntimeConfig, codes: bool) -> Evaluation:
    """A run's evaluation: read from its folder while generator, photos and protocol are the same, else measured.

    Args:
        codes: measure code_distance as well.
    """
    path, generator = run / _FILE, hashlib.sha256((run / GENERATOR).read_bytes()).hexdigest()
    key = {
        "generator": generator,
        "pack": pack.hash,
        "codes": codes,
        "protocol": json.loads(json.dumps(asdict(protocol))),
    }
    try:
        about = json.loads(path.read_text("utf-8"))
        if about["key"] == key:
            return Evaluation.from_json(about["evaluation"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing, damaged, of another version
        pass
    editor = load(run, runtime)
    evaluation = evaluate(editor, pack, protocol)
    if codes:
        evaluation.measures[CODES] = _code_distance(editor, pack, protocol)
    write_json(path, {"key": key, "evaluation": evaluation.to_json()})
    return evaluation


@torch.no_grad()
def _code_distance(editor: Editor, pack: Pack, protocol: Protocol) -> Measure:
    """Photos of the same split against the edits; the photos are all of the split, the edits the protocol's."""
    photo, device = editor.encoders.photo, editor.runtime.device
    dim, name = editor.encoders.config.dim, f"small encoder {editor.encoders.hash()[:12]}"
    real, fake = (Moments(dim, name, "centre crops", device) for _ in range(2))
    items = {"train": pack.train, "test": pack.test}[protocol.split]
    for rows in items.split(protocol.batch):
        real.add(photo.features(centre_crops(pack.tiles, rows, editor.image_size).to(device)).code)
    pairs = make_pairs(pack, protocol.split, protocol.count, protocol.captions, protocol.seed)
    for batch in make_edits(editor, pack, pairs, (), protocol.seed, protocol.batch):
        fake.add(photo.features(batch.edits).code)
    return Measure(frechet_distance(real, fake).fid, fake.n, better="lower", note=_CODES_NOTE)


def over_seeds(measures: Iterable[Measure]) -> Measure:
    """One measure from several seeds: each photo's mean over the seeds, or the mean of a number of the whole set."""
    measures = list(measures)
    first = measures[0]
    if len(measures) == 1:
        return first
    if not first.values:
        mean = sum(m.value for m in measures) / len(measures)
        return Measure(mean, first.n, first.unit, first.better, note=first.note)
    assert all(len(m.values) == len(first.values) for m in measures), "the same photos for every seed"
    values = np.mean([m.values for m in measures], axis=0)
    return Measure.of(values.tolist(), first.unit, first.better, first.statistic, first.weights, first.note)


@dataclass(frozen=True)
class Change:
    """What a method changes in one number, against the baseline on the same photos and seeds.

    Attributes:
        value: the method's number, over all seeds.
        difference: with its 95% interval; None where the number belongs to the whole set and has none.
        relative: the method's number over the baseline's, less 1; None where the latter is not positive and finite.
        seeds: the difference of each seed.
        moves: "up" or "down" when the interval leaves out 0 and all seeds agree on the direction, else "".
    """

    name: str
    value: float
    difference: Comparison | None
    relative: float | None
    seeds: tuple[float, ...]
    better: str

    @property
    def moves(self) -> str:
        signs = {math.copysign(1, d) for d in self.seeds if d}
        if self.difference is None or not self.difference.distinct or len(signs) != 1:
            return ""
        return "up" if signs == {1.0} else "down"


def change(name: str, baseline: list[Evaluation], method: list[Evaluation]) -> Change:
    """What the method changes in one measure.

    Args:
        name: of the measure.
        baseline: one evaluation per seed.
        method: the same, in the same order.
    """
    assert [e.images for e in baseline] == [e.images for e in method] and len(baseline) == len(method)
    before, after = (over_seeds(e[name] for e in runs) for runs in (baseline, method))
    seeds = tuple(b[name].value - a[name].value for a, b in zip(baseline, method, strict=True))
    difference = compare(before, after) if before.values else None
    relative = after.value / before.value - 1 if before.value > 0 and math.isfinite(before.value) else None
    return Change(name, after.value, difference, relative, seeds, after.better)

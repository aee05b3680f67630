"""Evaluations with made-up numbers, and what `gather` makes of them."""

from __future__ import annotations

import dataclasses
import json

from tmgan.evaluation.evaluate import Evaluation
from tmgan.evaluation.metrics.measure import Measure
from tmgan.evaluation.protocol import Protocol
from tmgan.paper import variants as rows
from tmgan.paper.results import gather


def evaluation(
    shift: float = 0.0, names=("sharpness", "sharpness_photo", "mask_score/dataset", "mask_score/histogram")
):
    values = [10.0 + k % 5 + shift for k in range(40)]
    measures = {n: Measure.of(values, "levels", "lower") for n in names}
    return Evaluation(Protocol(count=40), measures, tuple(f"bird{k}" for k in range(40)), "hash")


def results(found, **changes):
    """What `gather` makes of evaluations, as read back from tables.json."""
    setup = {
        "command": "tmgan tables",
        "drawn": False,
        "reduced": False,
        "tables": [1, 2, 3],
        "n": 40,
        "seeds": [0],
        "images": 16,
        "image_size": 256,
        "pre_trained": "dataset",
        "encoder_weights": "pretrained",
        "seconds": {"encoders": 1.0},
        "photos": "",
    }
    machine = dict.fromkeys(("device", "cores", "processor", "gpu", "tmgan", "torch", "date"), "x")
    about = gather(setup | changes, machine, rows.variants("dataset"), found, {}, None)
    return json.loads(json.dumps(about, allow_nan=False))


def with_measures(shift=0.0, **measures):
    one = evaluation(shift)
    return dataclasses.replace(one, measures=one.measures | {n.replace("__", "/"): m for n, m in measures.items()})

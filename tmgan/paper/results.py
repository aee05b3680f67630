"""The results as plain types: what OUT/tables.json holds, and all that the page is made from but the pictures.

setup      how it was made
machine    where and when
variants   every row: label, what it is, its tables
runs       variant -> measure -> value, low, high, n, unit, better, note, seeds (the value of each)
changes    variant -> measure -> value, low, high, relative, seeds, moves, of the paper's methods against the baseline
ablation   the same, of the other rows of table 4 against ours
paper      the paper's numbers
gradients  shares and strengths, with --as-published
captions   of the pictures, by name

A number is null where there is none, and "inf" or "-inf" where it is infinite, which JSON has no number for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import yaml

from tmgan.evaluation.evaluate import Evaluation
from tmgan.evaluation.metrics.measure import Measure
from tmgan.paper.measure import CODES, Change, change, over_seeds
from tmgan.paper.published import Maps
from tmgan.paper.variants import BASE, OBEDIENCE, OURS, PAPER, Variant

# What a method is compared in: name of the measure -> title.
COMPARED = {
    "sharpness": "sharpness",
    "mask_score/dataset": "mask score, true masks",
    "mask_score/fcn": "mask score, FCN masks",
    "mask_score/histogram": "mask score, histogram masks",
    "colour_accuracy": "colour accuracy",
    "others_kept": "other parts kept",
    CODES: "code distance",
    "fid/test": "FID",
    "kid/test": "KID",
    "fid/paper": "FID, training photos",
    "kid/paper": "KID, training photos",
    "inception_score": "Inception score",
}
# What table 4 has. Drawn birds have the first three, photographs the others.
OBEYED = {
    "colour_accuracy": "colour accuracy",
    "others_kept": "other parts kept",
    "background_psnr": "background PSNR, dB",
    "colour_words": "named colours",
    "preserved_psnr/dataset": "PSNR outside the object, true masks, dB",
    "preserved_psnr/fcn": "PSNR outside the object, FCN masks, dB",
    "sharpness": "sharpness",
}


def paper() -> dict[str, Any]:
    """The paper's numbers."""
    return yaml.safe_load(resources.files("tmgan.paper").joinpath("paper.yaml").read_text())


def gather(
    setup: dict[str, Any],
    machine: dict[str, Any],
    variants: tuple[Variant, ...],
    evaluations: Mapping[str, list[Evaluation]],
    captions: dict[str, str],
    maps: Maps | None,
) -> dict[str, Any]:
    """All results as plain types; see the module.

    Args:
        evaluations: one per seed, by variant; the baseline's among them.
        captions: of the pictures, by name.
        maps: None without --as-published.
    """
    base = evaluations[BASE]
    tables = {v.name: set(v.tables) for v in variants}
    papers = {n: seeds for n, seeds in evaluations.items() if n != BASE and tables[n] & {*PAPER}}
    parts = {n: seeds for n, seeds in evaluations.items() if n != OURS and OBEDIENCE in tables[n]}
    about: dict[str, Any] = {
        "setup": setup,
        "machine": machine,
        "variants": {
            v.name: {"label": v.label, "about": v.about, "tables": list(v.tables), "published": v.published}
            for v in variants
        },
        "runs": {
            name: {m: _measure([e[m] for e in seeds]) for m in _common(seeds)} for name, seeds in evaluations.items()
        },
        "changes": _changes(COMPARED, base, papers),
        "ablation": _changes(OBEYED, evaluations[OURS], parts) if OURS in evaluations else {},
        "notes": list(base[0].notes),
        "skipped": base[0].skipped,
        "paper": paper(),
        "captions": captions,
    }
    if maps is not None:
        about["gradients"] = {
            "areas": maps.areas,
            "answers": maps.answers,
            "maps": [
                {
                    "method": m.method,
                    "as": m.wiring,
                    "about": m.about,
                    "strength": m.strength,
                    "sharp": m.sharp,
                    "bird": m.bird,
                    "frame": m.frame,
                }
                for m in maps.maps
            ],
        }
    return about


def _changes(
    names: Iterable[str], base: list[Evaluation], others: Mapping[str, list[Evaluation]]
) -> dict[str, dict[str, Any]]:
    return {
        variant: {m: _change(change(m, base, seeds)) for m in names if m in _common([*base, *seeds])}
        for variant, seeds in others.items()
    }


def _common(evaluations: list[Evaluation]) -> list[str]:
    """What all of them have measured: a metric may have been left out for one."""
    return [name for name in evaluations[0] if all(name in each for each in evaluations)]


def _measure(seeds: list[Measure]) -> dict[str, Any]:
    measure = over_seeds(seeds)
    return {
        "value": _plain(measure.value),
        "low": _plain(measure.low),
        "high": _plain(measure.high),
        "n": measure.n,
        "unit": measure.unit,
        "better": measure.better,
        "note": measure.note,
        "seeds": [_plain(m.value) for m in seeds],
    }


def _change(one: Change) -> dict[str, Any]:
    value, low, high, _ = one.difference or (None, None, None, None)
    return {
        "value": _plain(value),
        "low": _plain(low),
        "high": _plain(high),
        "relative": _plain(one.relative),
        "seeds": [_plain(s) for s in one.seeds],
        "moves": one.moves,
    }


def _plain(value: float | None) -> float | str | None:
    """Six digits; see the module for a number that is undefined or infinite."""
    if value is None or math.isnan(value):
        return None
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)

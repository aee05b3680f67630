"""Measure a trained editor beside two baselines: the input copied, and the same network before training."""
from __future__ import annotations

import math

import torch
from torch import Tensor

from tmgan.bundle import build_generator
from tmgan.data.pack import Pack
from tmgan.edit import Editor
from tmgan.metrics.colour_accuracy import colour_accuracy, make_test
from tmgan.models.layers import init_weights

COLUMNS = {"colour_accuracy": "colour accuracy", "others_kept": "other parts kept",
           "background_psnr": "background PSNR (dB)", "n": "birds"}


def evaluate(editor: Editor, pack: Pack, count: int) -> dict[str, dict[str, float]]:
    """Rows by name: the editor, the untrained network, the input copied. For packs of drawn birds.

    count: held-out birds to use, the first ones.
    """
    test = make_test(pack, editor.image_size, count)
    untrained = build_generator(editor.config.model, editor.encoders)
    init_weights(untrained, torch.Generator().manual_seed(editor.config.seed))
    before = Editor(untrained, editor.encoders, editor.config, editor.runtime)

    def edit_with(which: Editor):
        return lambda images, texts: which.edit_tensors(images, texts).image

    def copy(images: Tensor, texts: list[str]) -> Tensor:
        return images

    return {"trained": colour_accuracy(test, edit_with(editor)), "untrained": colour_accuracy(test, edit_with(before)),
            "input copied": colour_accuracy(test, copy)}


def table(rows: dict[str, dict[str, float]]) -> str:
    """The rows as text for the console and the log."""
    width = max(map(len, rows))
    lines = ["  ".join([" " * width, *COLUMNS.values()])]
    for name, row in rows.items():
        cells = [_number(row[key]).rjust(len(title)) for key, title in COLUMNS.items()]
        lines.append("  ".join([name.ljust(width), *cells]))
    return "\n".join(lines)


def as_json(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """The rows with null where a number is infinite, which JSON cannot say."""
    return {name: {k: v if math.isfinite(v) else None for k, v in row.items()} for name, row in rows.items()}


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "exact" if math.isinf(value) else f"{value:.3f}" if abs(value) < 1.5 else f"{value:.1f}"

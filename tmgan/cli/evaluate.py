"""tmgan evaluate RUN [--data PACK] [--metrics ...] [--count N] [--split test|train] [--masks ...] [--json FILE]"""
from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from tmgan.cli.parse import parse
from tmgan.config import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure a trained editor on held-out photos, beside the same network before training and the input copied."""

    run: tyro.conf.Positional[Path]
    """Run folder of `tmgan train`."""
    data: Path | None = None
    """Pack to measure on; without it the one the run was trained on."""
    metrics: tuple[str, ...] = ()
    """What to measure; without it everything that can be measured here."""
    count: int = 1000
    """Photos to edit, at most."""
    split: Literal["test", "train"] = "test"
    """Held-out photos, or those of training, as in the paper."""
    captions: Literal["other", "own"] = "other"
    """Edit each photo by a caption of a photo of another class, or by its own, as in the paper."""
    masks: tuple[str, ...] = ()
    """Masks of what should stay to score under: dataset, histogram, fcn; without it all that the pack has."""
    seed: int = 0
    """Chooses photos, captions and the generator's noise."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """random: seeded random numbers in the metrics' own networks, for trying things out; every number then says so."""
    weights_dir: str = ""
    """Folder with third-party weights, searched before TMGAN_WEIGHTS and the torch hub cache."""
    clip: str = ""
    """Folder of a CLIP model as transformers saves it, for CLIP similarity."""
    batch: int = 64
    """Photos at a time."""
    baselines: bool = True
    """Measure the untrained network and the input copied too."""
    json: Path | None = None
    """Write the numbers there too, with the value of every photo."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    given = parse(Arguments, arguments, "evaluate")
    if given.json and not given.json.parent.is_dir():
        raise ValueError(f"There is no folder {given.json.parent} for --json {given.json}.")
    from tmgan.bundle import RANDOM_NOTE
    from tmgan.data.pack import Pack
    from tmgan.common.progress import Progress
    from tmgan.edit import load
    from tmgan.common.files import write_json
    from tmgan.evaluate import Protocol, baselines, describe, evaluate, table

    protocol = Protocol(metrics=given.metrics, count=given.count, seed=given.seed, split=given.split,
                        captions=given.captions, masks=given.masks, weights=given.weights,
                        weights_dir=given.weights_dir, clip=given.clip, batch=given.batch)
    editor = load(given.run, given.runtime)
    pack = Pack.open(given.data or editor.config.data or given.run / "drawn" / "pack", editor.image_size)
    if editor.encoders.weights == "random":
        print(f"NOTE: {RANDOM_NOTE}", file=sys.stderr)
    show = Progress(visible=True)
    models = {"trained": editor, **(baselines(editor) if given.baselines else {})}
    found = {name: evaluate(model, pack, protocol, show) for name, model in models.items()}
    print(f"{table(found)}\n{describe(found['trained'])}")
    if given.json:
        write_json(given.json, {name: evaluation.to_json() for name, evaluation in found.items()})

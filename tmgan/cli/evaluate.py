"""tmgan evaluate RUN [--data PACK] [--metrics ...] [--count N] [--split test|train] [--masks ...] [--json FILE]"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from tmgan.cli.parse import parse
from tmgan.config.settings import RuntimeConfig
from tmgan.evaluation.protocol import Protocol


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure a trained editor on held-out photos, beside the same network before training and the input copied."""

    run: tyro.conf.Positional[Path]
    """Run folder of `tmgan train`."""
    data: Path | None = None
    """Pack to measure on; without it the one the run was trained on."""
    protocol: Annotated[Protocol, tyro.conf.arg(name="")] = field(default_factory=Protocol)
    baselines: bool = True
    """Measure the untrained network and the input copied too."""
    json: Path | None = None
    """Write the numbers there too, with the value of every photo."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    given = parse(Arguments, arguments, "evaluate")
    if given.json and not given.json.parent.is_dir():
        raise ValueError(f"There is no folder {given.json.parent} for --json {given.json}.")
    from tmgan.common.files import write_json
    from tmgan.common.progress import Progress
    from tmgan.data.pack import Pack
    from tmgan.editing.editor import load
    from tmgan.evaluation.evaluate import baselines, describe, evaluate, table
    from tmgan.models.bundle import RANDOM_NOTE

    editor = load(given.run, given.runtime)
    pack = Pack.open(given.data or editor.config.data or given.run / "drawn" / "pack", editor.image_size)
    if editor.encoders.weights == "random":
        print(f"NOTE: {RANDOM_NOTE}", file=sys.stderr)
    show = Progress(visible=True)
    models = {"trained": editor, **(baselines(editor) if given.baselines else {})}
    found = {name: evaluate(model, pack, given.protocol, show) for name, model in models.items()}
    print(f"{table(found)}\n{describe(found['trained'])}")
    if given.json:
        write_json(given.json, {name: evaluation.to_json() for name, evaluation in found.items()})

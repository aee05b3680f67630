"""tmgan evaluate RUN [--data PACK] [--metrics ...] [--count N] [--split test|train] [--masks ...] [--json FILE]"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from tmgan.cli.parse import parse
from tmgan.common.text import printable
from tmgan.config.settings import RuntimeConfig
from tmgan.evaluation.protocol import Protocol


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure a trained editor on held-out photos, next to the same network before training and a copy of the input."""

    run: tyro.conf.Positional[Path]
    """Run folder of `tmgan train`."""
    data: Path | None = None
    """Pack to measure on; without it the one the run was trained on."""
    protocol: Annotated[Protocol, tyro.conf.arg(name="")] = field(default_factory=Protocol)
    baselines: bool = True
    """Also measure the untrained network and a copy of the input."""
    json: Path | None = None
    """File to write the numbers to, with the value of every photo."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "evaluate")
    if options.json and not options.json.parent.is_dir():
        raise ValueError(f"There is no folder {options.json.parent} for --json {options.json}.")
    from tmgan.common.files import write_json
    from tmgan.editing.editor import load
    from tmgan.evaluation.evaluate import baselines, describe, evaluate, pack_of, table

    editor = load(options.run, options.runtime)
    pack = pack_of(editor, options.data)
    for note in editor.notes:
        print(printable(f"NOTE: {note}"), file=sys.stderr)
    models = {"trained": editor, **(baselines(editor) if options.baselines else {})}
    evaluations = {name: evaluate(model, pack, options.protocol) for name, model in models.items()}
    print(printable(f"{table(evaluations)}\n{describe(evaluations['trained'])}"))
    if options.json:
        write_json(options.json, {name: evaluation.to_json() for name, evaluation in evaluations.items()})

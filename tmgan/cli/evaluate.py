"""tmgan evaluate RUN [--data PACK] [--count N] [--json FILE]"""
from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from tmgan.cli.parse import parse
from tmgan.config import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure whether a trained editor obeys the text, beside the untrained network and the input copied."""

    run: tyro.conf.Positional[Path]
    """Run folder of `tmgan train`."""
    data: Path | None = None
    """Pack of drawn birds; without it the one the run was trained on."""
    count: int = 200
    """Held-out birds to use, at most."""
    json: Path | None = None
    """Write the numbers there too."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    given = parse(Arguments, arguments, "evaluate")
    if given.count < 1:
        raise ValueError(f"--count is {given.count}; use 1 or more.")
    if given.json and not given.json.parent.is_dir():
        raise ValueError(f"There is no folder {given.json.parent} for --json {given.json}.")
    from tmgan.bundle import RANDOM_NOTE
    from tmgan.checkpoint import write_atomically
    from tmgan.data.pack import Pack
    from tmgan.edit import load
    from tmgan.evaluate import as_json, evaluate, table

    editor = load(given.run, given.runtime)
    pack = Pack.open(given.data or editor.config.data or given.run / "drawn" / "pack", editor.image_size)
    if editor.encoders.weights == "random":
        print(f"NOTE: {RANDOM_NOTE}", file=sys.stderr)
    rows = evaluate(editor, pack, given.count)
    print(table(rows))
    if given.json:
        write_atomically(given.json, lambda file: file.write(json.dumps(as_json(rows), indent=1).encode()))

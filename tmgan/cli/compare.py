"""tmgan compare RUN RUN... [--data PACK] [--out FOLDER] [--metrics ...] [--count N] [--split test|train]"""

from __future__ import annotations

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
    """Measure runs on the same held-out photos and show their edits side by side, as OUT/compare.html, .md and .json.

    It says which differences are more than chance: better, worse, or cannot be told.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of `tmgan train`, two or more; the first one is what the others are compared with."""
    data: Path | None = None
    """Pack to measure on; without it the one that all of them were trained on."""
    out: Path = Path("runs/compare")
    """Folder for the page; what an earlier comparison wrote there is replaced."""
    protocol: Annotated[Protocol, tyro.conf.arg(name="")] = field(default_factory=Protocol)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "compare")
    from tmgan.common.files import require_writable, write_json
    from tmgan.evaluation.comparison import compare_runs
    from tmgan.reports.comparison import comparison_page, console_text

    require_writable(options.out)
    comparison = compare_runs(options.runs, options.data, options.protocol, options.runtime)
    print(printable(console_text(comparison)))
    paths = comparison_page(comparison).write(options.out, "compare")
    write_json(options.out / "compare.json", comparison.to_json())
    for path in (*paths, options.out / "compare.json"):
        print(path)

"""tmgan report RUN [--out FOLDER]"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from tmgan.cli.parse import parse


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write RUN/report.html, a single file to view and to share, and RUN/report.md."""

    run: tyro.conf.Positional[Path]
    """Run folder of `tmgan train` or `tmgan damsm`; it need not be finished."""
    out: Path | None = None
    """Folder to write to; without it the run folder."""


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "report")
    from tmgan.reports.run_report import report

    for path in report(options.run).write(options.out or options.run, "report"):
        print(path)

"""tmgan data doctor DIR"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from tmgan.cli.parse import parse
from tmgan.common.errors import REFUSED
from tmgan.common.text import printable

_MARKS = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Say what a source folder or a pack holds, what is missing and what to do. Exit status 2 if there is a problem."""

    directory: tyro.conf.Positional[Path]
    """Source folder, or pack."""


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "data doctor")
    from tmgan.data.doctor import examine

    findings = examine(options.directory)
    for finding in findings:
        remedy = f"\n         -> {finding.remedy}" if finding.remedy else ""
        print(printable(f"{_MARKS[finding.level]} {finding.text}{remedy}"))
    if any(finding.level == "problem" for finding in findings):
        sys.exit(REFUSED)

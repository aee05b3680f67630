"""tmgan tables [--data PACK] [--out DIR] [--only 1 2 3] [--as-published]"""

from __future__ import annotations

import shlex
import sys

from tmgan.cli.parse import parse
from tmgan.paper.request import Request


def main(arguments: list[str]) -> None:
    request = parse(Request, arguments, "tables")
    from tmgan.paper.make import make  # imports torch: after --help and mistakes in the flags
    from tmgan.paper.runs import Stopped

    command = shlex.join(["tmgan", "tables", *arguments])
    try:
        paths = make(request, command)
    except Stopped:
        print(f"Stopped; continue with\n  {command}")
        sys.exit(130)
    for path in paths:
        print(path)

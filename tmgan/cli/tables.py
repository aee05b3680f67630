"""tmgan tables [--data PACK] [--out DIR] [--only 1 2 3] [--as-published]"""

from __future__ import annotations

from tmgan.cli.parse import parse
from tmgan.common.commands import command
from tmgan.paper.request import Request


def main(arguments: list[str]) -> None:
    request = parse(Request, arguments, "tables")
    from tmgan.paper.make import make  # imports torch: after --help and mistakes in the flags

    line = command("tables", *arguments)
    try:
        paths = make(request, line)
    except KeyboardInterrupt:
        print(f"Stopped; continue with\n  {line}")
        raise
    for path in paths:
        print(path)

"""Prints the measured step of a GPU beside the prediction, and the rates that follow.

    python -m benchmarks.offline.measured DOCUMENT [--report OFFLINE.json]

DOCUMENT: benchmarks/results/steps-CARD-....json with the profile of 1-step.sh; the report is by default the last
committed one of its preset and batch. The last lines are for MEASURED in rates.py: predictions for this card then go by
them, this comparison still by what was assumed. How the two sides are compared: comparison.py.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import comparison, tables, text


def lines(document: dict, report: dict, file: str) -> list[str]:
    """What is printed, of a document in a file of this name."""
    both = comparison.pairs(document, report)
    corrections = comparison.corrected(document, both)
    printed = [text.align(comparison.table_rows(document, both)), ""]
    if (step := comparison.timed_step(document)) is not None:
        images = document["settings"]["batch"] / step
        printed += [f"A step without the profiler: {1e3 * step:.2f} ms, {images:.0f} images/s", ""]
    printed += ["The operators that take most beyond what was predicted:", text.align(comparison.slower_rows(both)), ""]
    if comparison.one_sided(both):
        printed += ["Only counted, or only measured:", text.align(comparison.one_sided_rows(both)), ""]
    return [
        *printed,
        "The rates that follow, each a ratio of sums over the rows that it binds:",
        text.align(comparison.rate_rows(document, corrections)),
        "",
        "For MEASURED in rates.py:",
        *comparison.source_lines(document, file, corrections),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.offline.measured", description=__doc__.split("\n", 1)[0]
    )
    parser.add_argument("document", type=Path)
    parser.add_argument("--report", type=Path, help="the offline report; by default the last committed one that fits")
    arguments = parser.parse_args()
    try:
        document = json.loads(arguments.document.read_text())
        comparison.check(document)
        report = tables.load(arguments.report) if arguments.report else tables.newest(tables.RESULTS, document)
        print(*lines(document, report, arguments.document.name), sep="\n")
    except (OSError, ValueError) as error:  # a document or a report that is none, or does not fit
        sys.exit(f"{arguments.document}: {error}")


if __name__ == "__main__":
    main()

"""A file of JSON lines that survives being killed: what was planned, then each row the moment it is known.

    python -m benchmarks.gpu.journal OUT/1-step.jsonl ...      what was measured, what is missing, and why

A line is an object with a "kind": begin, planned, machine, row, test, failed, missing or end. A row has either what was
measured, or "error" with its "traceback", or the "reason" why it cannot exist here. Imports no torch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

STOPPED = "the script was stopped before it"


class Journal:
    """Appends lines. Several processes may: each line is one write, and is on the disk when add() returns.

    Args:
        path: of the file.
        stamp: what every line carries as well: the run, the card, versions, the commit.
    """

    def __init__(self, path: Path, stamp: dict | None = None):
        self.path, self.stamp = Path(path), stamp or {}

    def add(self, kind: str, **values: object) -> None:
        line = json.dumps({"kind": kind, **values, **self.stamp}).encode() + b"\n"
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(file).st_size
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"  # a writer was killed within its line
            os.write(file, b"\n" + line if torn else line)
            os.fsync(file)
        finally:
            os.close(file)

    def row(self, name: str, **values: object) -> None:
        self.add("row", row=name, **values)

    def error(self, name: str, error: BaseException) -> None:
        """A row that failed, with its whole traceback."""
        text = "".join(traceback.format_exception(error))
        self.row(name, error=describe_error(error), traceback=text)
        print(f"== {name}\n{text}", file=sys.stderr, flush=True)

    def lines(self) -> list[dict]:
        """The lines of this run, where there is a stamp with one; else of the newest in the file."""
        every = read(self.path)
        runs = [line["run"] for line in every if "run" in line]
        run = self.stamp.get("run", runs[-1] if runs else None)
        return [line for line in every if line.get("run") == run]


def read(path: Path) -> list[dict]:
    """Every whole line of a file; a torn one, whose writer was killed, is left out."""
    values = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            values.append(value)
    return values


def runs(path: Path) -> list[list[dict]]:
    """The lines of each run of a file, the oldest first."""
    lines_by_run: dict[str | None, list[dict]] = {}
    for line in read(path):
        lines_by_run.setdefault(line.get("run"), []).append(line)
    return list(lines_by_run.values())


def describe_error(error: BaseException) -> str:
    """Its first line, and that of the error before it: a capture that fails reports its end, not its cause."""
    lines = [f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]]
    if error.__context__ is not None and error.__cause__ is None and not error.__suppress_context__:
        lines.append(describe_error(error.__context__))
    return "; after ".join(lines)


def rows(lines: Iterable[dict]) -> dict[str, dict]:
    """The rows by name; of one that was written twice the later, but none that failed in place of a measured one."""
    found: dict[str, dict] = {}
    for line in lines:
        if line["kind"] == "row" and (is_measured(line) or not is_measured(found.get(line["row"], {"reason": ""}))):
            found[line["row"]] = line
    return found


def is_measured(row: dict) -> bool:
    return "error" not in row and "reason" not in row


def missing(lines: list[dict]) -> dict[str, str]:
    """Why each planned row is not there, by name."""
    rows_by_name = rows(lines)
    reasons = {name: line["reason"] for line in lines if line["kind"] == "missing" for name in line["rows"]}
    plan = [name for line in lines if line["kind"] == "planned" for name in line["rows"]]
    return {name: reasons.get(name, STOPPED) for name in plan if name not in rows_by_name}


def table(lines: list[dict]) -> list[str]:
    """What was measured, what failed, and what is missing and why, as lines of text."""
    rows_by_name, absent = rows(lines), missing(lines)
    width = max((len(name) for name in (*rows_by_name, *absent)), default=0)
    text = [f"{name:{width}}  {_said(row)}" for name, row in rows_by_name.items()]
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in absent.items():
        names_by_reason.setdefault(reason, []).append(name)
    for reason, names in names_by_reason.items():
        text.append(f"missing, {len(names)} rows: {reason}")
        text += [f"    {name}" for name in names[:40]] + ([f"    and {len(names) - 40} more"] if names[40:] else [])
    failures = sum("error" in row for row in rows_by_name.values())
    impossible = sum("reason" in row for row in rows_by_name.values())
    text.append(
        f"{len(rows_by_name) - failures - impossible} rows measured, {failures} failed, "
        f"{impossible} not possible here, {len(absent)} missing"
    )
    return text


def _said(row: dict) -> str:
    if "error" in row:
        return f"FAILED: {row['error']}"
    return f"not possible: {row['reason']}" if "reason" in row else row.get("shown", "done")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.journal", description="What was measured, what is missing, and why."
    )
    parser.add_argument("file", type=Path, nargs="+", help="that a script wrote: OUT/1-step.jsonl")
    paths = parser.parse_args(arguments).file
    for path in paths:
        if not path.is_file():
            parser.error(f"{path} is no file")
    for path in paths:
        print(f"== {path}", *table(Journal(path).lines()), sep="\n")


if __name__ == "__main__":
    main()

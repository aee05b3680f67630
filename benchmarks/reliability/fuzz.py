"""Fuzz every reader of files from anywhere, and count: `python -m benchmarks.reliability.fuzz --minutes 60`.

Each reader (tests/fuzz/targets.py) takes its turns in a process of its own with a limit on its memory, by hypothesis,
which knows JSON and pickles, and by atheris where that is installed, which follows what a change makes the reader do.
A case fails as tests/fuzz/guard.py says; its file is kept. The rows are written after every turn.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.schema import require, require_fields
from tmgan.common.files import write_json

KIND = "reliability-fuzz"
ENGINES = ("hypothesis", "atheris")
TURN = 20.0  # seconds that a process fuzzes
ADDRESSES = 8 * 2**30  # bytes of address space of a process: a bomb ends there
SILENCE = 120  # seconds of processor time without a sign of life: a process hangs where no signal reaches it
_CHUNK = 400  # cases of hypothesis between two looks at the clock
_KEPT = 20  # files of failures that a process keeps

ROW = {
    "target": str,
    "cases": int,
    "seconds": float,
    "outcomes": dict,
    "failures": list,
    "most_memory_bytes": int,
    "most_of_limit": float,
    "slowest_seconds": float,
    "memory_multiple": int,
    "memory_constant": int,
}


def check(document: dict[str, Any]) -> None:
    """Raise SchemaError at the first value that is missing or impossible."""
    fields = {"kind": str, "machine": dict, "minutes": float, "seed": int, "engines": list, "cases": int, "rows": list}
    require_fields(document, fields, "document")
    require(document["kind"] == KIND, "document.kind", f"{document['kind']!r} is not {KIND!r}")
    for number, row in enumerate(document["rows"]):
        where = f"rows[{number}]"
        require_fields(row, ROW, where)
        require(sum(row["outcomes"].values()) == row["cases"], where, "its outcomes are not as many as its cases")
    require(document["cases"] == sum(row["cases"] for row in document["rows"]), "document.cases", "not the rows' sum")


class Tally:
    """What became of the cases of one process; `write` puts it where the parent reads it."""

    def __init__(self, target: Any, file: Path, failures: Path):
        self.target, self.file, self.folder = target, file, failures
        self.start = self.written = time.monotonic()
        self.outcomes: Counter[str] = Counter()
        self.failures: dict[str, dict[str, Any]] = {}
        self.most, self.share, self.slowest = 0, 0.0, 0.0

    def one(self, case: Any, data: bytes, folder: Path) -> None:
        """Judge one case."""
        from tests.fuzz.guard import judge

        self.file.with_suffix(".current").write_bytes(data)
        case.place(data)
        verdict = judge(case.read, folder, len(data), self.target.limit)
        self.outcomes[verdict.outcome] += 1
        self.most, self.slowest = max(self.most, verdict.memory), max(self.slowest, verdict.seconds)
        self.share = max(self.share, verdict.memory / self.target.limit.of(len(data)))
        for failure in verdict.failures:
            self._keep(failure, data)
        if time.monotonic() - self.written > 1:
            self.write()

    def _keep(self, failure: str, data: bytes) -> None:
        kind = failure[:100]
        if kind in self.failures:
            self.failures[kind]["count"] += 1
            return
        file = ""
        if len(self.failures) < _KEPT:
            file = f"{self.target.name.replace(' ', '-')}-{hashlib.sha256(data).hexdigest()[:12]}"
            (self.folder / file).write_bytes(data)
        self.failures[kind] = {"what": failure[:400], "file": file, "count": 1}

    def row(self) -> dict[str, Any]:
        return {
            "target": self.target.name,
            "cases": self.outcomes.total(),
            "seconds": time.monotonic() - self.start,
            "outcomes": dict(self.outcomes),
            "failures": list(self.failures.values()),
            "most_memory_bytes": self.most,
            "most_of_limit": self.share,
            "slowest_seconds": self.slowest,
            "memory_multiple": self.target.limit.multiple,
            "memory_constant": self.target.limit.constant,
        }

    def write(self) -> None:
        self.written = time.monotonic()
        write_json(self.file, self.row())


def work(name: str, engine: str, seed: int, seconds: float, file: Path, failures: Path) -> None:
    """A process: fuzz one reader for so long."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    if engine == "atheris":
        import atheris

        following: contextlib.AbstractContextManager = atheris.instrument_imports(include=["tmgan"])
    else:
        following = contextlib.nullcontext()
    with following:
        from tests.fuzz.targets import TARGETS, warm_up
    import torch

    torch.set_num_threads(1)
    target = next(target for target in TARGETS if target.name == name)
    with tempfile.TemporaryDirectory(prefix="tmgan-fuzz-") as temporary:
        folder = Path(temporary) / "case"
        folder.mkdir()
        case = target.make(folder)
        warm_up(case)
        tally = Tally(target, file, failures)
        for data in case.seeds:
            tally.one(case, data, folder)
        if engine == "atheris":
            _atheris(case.seeds, Path(temporary), seed, seconds, lambda data: tally.one(case, data, folder))
        else:
            _hypothesis(target.form, case.seeds, seed, seconds, lambda data: tally.one(case, data, folder))
        tally.write()


def _hypothesis(form: str, seeds: list[bytes], seed: int, seconds: float, one: Callable[[bytes], None]) -> None:
    import hypothesis

    from tests.fuzz.changes import changes

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        settings = hypothesis.settings(
            max_examples=_CHUNK,
            database=None,
            deadline=None,
            phases=(hypothesis.Phase.generate,),
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        hypothesis.seed(seed)(settings(hypothesis.given(changes(form, seeds))(one)))()
        seed += 1


def _atheris(seeds: list[bytes], folder: Path, seed: int, seconds: float, one: Callable[[bytes], None]) -> None:
    """It ends the process, so what was counted is written once a second."""
    import atheris

    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds):
        (corpus / str(number)).write_bytes(data)
    options = [
        f"-max_total_time={int(seconds)}",
        f"-seed={seed + 1}",
        "-rss_limit_mb=0",
        "-max_len=65536",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, enable_python_coverage=True)
    atheris.Fuzz()


def turn(name: str, engine: str, seed: int, seconds: float, failures: Path) -> dict[str, Any]:
    """Have a process fuzz a reader, and return its row; a process that dies or hangs is a failure of its last case."""
    with tempfile.TemporaryDirectory(prefix="tmgan-fuzz-") as temporary:
        file = Path(temporary) / "row.json"
        arguments = [name, engine, str(seed), str(seconds), str(file), str(failures)]
        command = [sys.executable, "-m", "benchmarks.reliability.fuzz", "--work", *arguments]
        with open(file.with_suffix(".errors"), "w+b") as errors:  # no pipe: libFuzzer says much, and nobody reads
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
            why = _wait(process, file)
            if not why and process.returncode != 0:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip()[-400:]
                why = f"the process ended with {process.returncode}: {said}"
        row = (
            json.loads(file.read_text())
            if file.exists()
            else {"target": name, "cases": 0, "outcomes": {}, "failures": []}
        )
        if why:
            current = file.with_suffix(".current")
            data = current.read_bytes() if current.exists() else b""
            kept = f"{name.replace(' ', '-')}-{hashlib.sha256(data).hexdigest()[:12]}"
            (failures / kept).write_bytes(data)
            row["failures"].append({"what": why, "file": kept, "count": 1})
        return row


def _wait(process: subprocess.Popen, file: Path) -> str:
    """Wait for the end of a process, or end it when it hangs: then what is wrong with it, else ""."""
    alive, written = 0.0, 0
    while process.poll() is None:
        time.sleep(0.2)
        now = file.stat().st_mtime_ns if file.exists() else 0
        if now != written:
            alive, written = _processor_seconds(process.pid), now
        if _processor_seconds(process.pid) - alive > SILENCE:
            process.kill()
            process.wait()
            return f"hangs: no sign of life for {SILENCE} s of processor time"
    return ""


def _processor_seconds(pid: int) -> float:
    """What a process has had of the processor, also on a busy machine; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def add(rows: dict[str, dict[str, Any]], row: dict[str, Any]) -> None:
    """Add a turn to what is known of its reader."""
    known = rows.get(row["target"])
    if known is None:
        rows[row["target"]] = row
        return
    known["outcomes"] = dict(Counter(known["outcomes"]) + Counter(row["outcomes"]))
    known["failures"] += [
        f for f in row["failures"] if f["what"][:100] not in {k["what"][:100] for k in known["failures"]}
    ]
    known["cases"] += row["cases"]
    known["seconds"] = known.get("seconds", 0.0) + row.get("seconds", 0.0)
    for name in ("most_memory_bytes", "most_of_limit", "slowest_seconds"):
        known[name] = max(known.get(name, 0), row.get(name, 0))


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        name, engine, seed, seconds, file, failures = sys.argv[2:]
        work(name, engine, int(seed), float(seconds), Path(file), Path(failures))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=ENGINES, help="without it both in turn, where atheris is installed")
    parser.add_argument("--out", type=Path, metavar="FILE", help="written after every turn")
    parser.add_argument("--failures", type=Path, help="folder for the files of failures; without it a new one")
    options = parser.parse_args()
    from tests.fuzz.targets import TARGETS

    failures = options.failures or Path(tempfile.mkdtemp(prefix="tmgan-fuzz-failures-"))
    failures.mkdir(parents=True, exist_ok=True)
    engines = [options.engine] if options.engine else [name for name in ENGINES if find_spec(name)]
    start, number = time.monotonic(), 0
    rows: dict[str, dict[str, Any]] = {}
    seconds = min(TURN, max(1.0, 60 * options.minutes / len(TARGETS) / len(engines)))
    while time.monotonic() - start < 60 * options.minutes:
        round_number, place = divmod(number, len(TARGETS))
        engine = engines[(round_number + place) % len(engines)]
        add(rows, turn(TARGETS[place].name, engine, options.seed + 1000 * number, seconds, failures.resolve()))
        number += 1
        document = {
            "kind": KIND,
            "machine": machine.describe("cpu"),
            "minutes": (time.monotonic() - start) / 60,
            "seed": options.seed,
            "engines": engines,
            "cases": sum(row["cases"] for row in rows.values()),
            "rows": list(rows.values()),
        }
        if options.out:
            write_json(options.out, document)
    found = {row["target"]: [each["what"] for each in row["failures"]] for row in rows.values() if row["failures"]}
    print(f"{document['cases']:,} cases in {document['minutes']:.1f} minutes, failures of {len(found)} readers.")
    for name, whats in found.items():
        print(f"{name}: {'; '.join(whats)}")
    if found:
        print(f"Their files are in {failures}.")
        sys.exit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

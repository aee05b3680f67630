"""Collects the rows of one session, failures and what was not reached too: nothing is silently absent."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import machine, schema
from benchmarks.gpu.journal import describe_error
from benchmarks.kernels import timer
from benchmarks.kernels.timer import Timing

MUST_RUN = ("eager", "triton", "cuda")  # a failure of another provider is a row, but does not fail the run


class Results:
    """What a session measured.

    Args:
        budget: seconds after which no measurement starts; 0 for no limit.
        only_compile: fill the compilers' caches and measure nothing.
        say: prints a line at once.
    """

    def __init__(self, budget: float, only_compile: bool, say: Callable[[str], None]) -> None:
        self.gpu = torch.cuda.is_available()
        self.budget, self.only_compile, self.say = budget, only_compile, say
        self.planned: list[dict] = []  # keys of all tests of speed that were selected
        self.rows: list[dict] = []
        self.host: list[dict] = []
        self.start = time.monotonic()
        self.machine = machine.describe("cuda" if self.gpu else "cpu")
        if self.gpu:
            self.machine["gpu_state_before"] = machine.gpu_state()
        self.copy = measure_copy(say) if self.gpu and not only_compile else None

    # ------------------------------------------------------------------ rows
    @contextlib.contextmanager
    def measuring(self, key: dict, rows: list[dict]) -> Iterator[None]:
        """Around a measurement that goes into `rows`: past the budget it is skipped, and an error becomes its row."""
        if self.budget and time.monotonic() - self.start > self.budget:
            pytest.skip("the time given by --budget is over")
        try:
            yield
        except Exception as error:
            rows.append({**key, "error": describe_error(error)})
            self._progress(key, rows[-1]["error"])
            if self.gpu:
                self._stop_if_lost()
            if key["provider"] in MUST_RUN:
                raise
            pytest.xfail(rows[-1]["error"])

    @staticmethod
    def _stop_if_lost() -> None:
        """An illegal access ends the CUDA context: every later row would fail for it."""
        try:
            torch.cuda.synchronize()
        except Exception as error:
            pytest.exit(f"the GPU is lost to this process: {describe_error(error)}", returncode=1)

    def add(self, key: dict, timing: Timing, moved: int, benchmark: object) -> None:
        row = {**key, **measurement(timing, moved, self.copy)}
        self.rows.append(row)
        benchmark.extra_info.update(row)
        fraction = f", {row['copy_fraction']:.0%} of copy" if self.copy else ""
        self._progress(key, f"{timing.median:.1f} us{fraction}")

    def add_host(self, key: dict, timing: Timing, benchmark: object) -> None:
        self.host.append({**key, **times(timing)})
        benchmark.extra_info.update(self.host[-1])

    def _progress(self, key: dict, what: str) -> None:
        """One line per row, with how far we are and, from the pace so far, how long it will still take."""
        if not self.gpu or self.only_compile:
            return
        share, seconds = len(self.rows) / max(len(self.planned), 1), time.monotonic() - self.start
        size = (
            f"{key['batch']}x{key['channels']}x{key['height']}x{key['width']} {key['dtype']} {key['layout']}"
            if "batch" in key
            else "host"
        )
        remaining = seconds * (1 - share) / max(share, 1e-6)
        self.say(
            f"[{share:4.0%}, {seconds:3.0f} s, {remaining:3.0f} s left] {key['operation']} {key['pass']} "
            f"{key['provider']} {size}{_options(key)}: {what}"
        )

    # -------------------------------------------------------------- document
    def document(self) -> dict:
        """What `schema.check` accepts; rows that were planned and are not there are named."""
        identities = {schema.identity(row) for row in self.rows}
        missing = [
            {**key, "reason": "the run stopped before it"}
            for key in self.planned
            if schema.identity(key) not in identities
        ]
        if self.gpu:
            self.machine["gpu_state_after"] = machine.gpu_state()
        return {
            "schema": schema.SCHEMA,
            "machine": self.machine,
            "copy": self.copy,
            "seconds": round(time.monotonic() - self.start, 1),
            "rows": self.rows,
            "host": self.host,
            "not_measured": missing,
        }

    def write(self, path: Path) -> Path:
        """Write to `path`, or to a new file in it if it is a folder."""
        return write(self.document(), path)


def measure_copy(say: Callable[[str], None]) -> dict:
    """The bandwidth of a plain copy on this GPU: what fractions are fractions of."""
    clock, moved = timer.copy_timer()
    for _ in range(timer.ROUNDS):
        clock.round()
    timing = clock.timing()
    say(f"copy: {moved / timing.median / 1e3:.0f} GB/s, read and written")
    return {
        "gigabytes_per_second": moved / timing.median / 1e3,
        "bytes": moved,
        "microseconds": timing.median,
        "iqr_microseconds": timing.iqr,
    }


def measurement(timing: Timing, moved: int, copy: dict | None) -> dict:
    """The measured fields of a row.

    Args:
        moved: the bytes that the call could not avoid moving.
    """
    return {
        **times(timing),
        "calls": timing.calls,
        "input_sets": timing.sets,
        "bytes": moved,
        **schema.derive(timing.median, moved, copy),
        "peak_bytes": timing.peak_bytes,
    }


def write(document: dict, path: Path) -> Path:
    """Write a document of kernels to `path`, or to a new file in it if it is a folder."""
    if path.suffix != ".json":
        gpu = document["machine"]["gpu"]
        name = re.sub(r"\W+", "-", gpu if schema.on_gpu(document) else "cpu").strip("-").lower()
        path = path / f"kernels-{name}-{document['machine']['date']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    # One row per line, so that a diff of two runs can be read.
    head = {name: value for name, value in document.items() if not isinstance(value, list)}
    lists = [
        f' "{name}": [\n  ' + ",\n  ".join(map(json.dumps, document[name])) + "\n ]"
        if document[name]
        else f' "{name}": []'
        for name in ("rows", "host", "not_measured")
    ]
    path.write_text(json.dumps(head, indent=1)[:-2] + ",\n" + ",\n".join(lists) + "\n}\n")
    schema.check(document)  # last: a measurement that cannot be repeated is not thrown away
    return path


def times(timing: Timing) -> dict:
    return {"microseconds": timing.median, "iqr_microseconds": timing.iqr, "samples": len(timing.samples)}


def _options(key: dict) -> str:
    return "".join(f" {name}={value}" for name, value in key.get("options", {}).items())

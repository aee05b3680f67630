"""How long the host needs to launch a training step, on the GPU that computes nothing (benchmarks/stand_in).

    python -m benchmarks.step.host [--presets PRESET:BATCH ...] [--out FILE]

A step can be no faster than this, whatever the GPU: it waits for the next launch where it does its work in less. What
NVIDIA's driver takes for a launch comes on top. Measured is processor time, on one core, of Python, torch, Triton's
launcher and, for `compiled` and `graphed`, what Inductor has written. Compiling takes minutes.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import json
import os
import sys
import time
from pathlib import Path

from benchmarks import machine
from benchmarks.markdown import machine_line, table
from benchmarks.stand_in import build

RESULTS = Path(__file__).parents[1] / "results"
FILE = "host-step.json"
PRESETS = ("quickstart:8", "editor:32", "combined:40")  # the batches of the offline reports, where there is one
ENGINES = ("eager", "compiled", "graphed")
SECONDS, LEAST = 5.0, 20  # of timing per engine, and steps


def launches() -> int:
    """Kernels launched so far."""
    return ctypes.c_ulonglong.in_dll(ctypes.CDLL(None), "standInLaunches").value


def measure(preset: str, batch: int, engine: str) -> dict:
    """One row, under the stand-ins."""
    import torch

    from benchmarks.step.measure import times
    from tmgan.config import configfile
    from tmgan.config.runtime import decide
    from tmgan.config.settings import RuntimeConfig
    from tmgan.training import bench

    torch._dynamo.reset()
    config = dataclasses.replace(configfile.from_preset(preset), batch=batch)
    synthetic = bench.synthetic_step(config, decide(RuntimeConfig(engine=engine, threads=1)))
    for number in range(2):  # compiles, and captures
        synthetic.step(synthetic.batch, number * batch)
    before = launches()
    synthetic.step(synthetic.batch, 2 * batch)
    count = launches() - before
    spread = bench.time_step(synthetic.step, synthetic.batch, SECONDS, LEAST, time.process_time)
    return {"preset": preset, "batch": batch, "engine": engine, **times(spread), "launches": count}


def document(presets: list[str]) -> dict:
    rows = []
    start = time.monotonic()
    for preset, _, batch in (name.partition(":") for name in presets):
        for engine in ENGINES:
            rows.append(measure(preset, int(batch), engine))
            print(f"{preset} {engine}: {1e3 * rows[-1]['seconds']:.1f} ms, {rows[-1]['launches']} launches", flush=True)
    about = machine.describe("cpu")  # the card is none
    return {"schema": 1, "kind": "host", "machine": about, "seconds": time.monotonic() - start, "rows": rows}


# ------------------------------------------------------------------------ the page
def section(results: Path) -> str:
    """For docs/performance.md: beside the time that is predicted for an H200, where there is a report."""
    path = results / FILE
    if not path.exists():
        return "Not measured."
    found = json.loads(path.read_text())
    head = ("preset, batch", "engine", "host, ms", "iqr", "launches", "H200, predicted ms")
    body = [
        (
            f"`{row['preset']}`, {row['batch']}",
            row["engine"],
            f"{1e3 * row['seconds']:.1f}",
            f"{1e3 * row['iqr_seconds']:.1f}",
            f"{row['launches']:,}",
            _predicted(results, row),
        )
        for row in found["rows"]
    ]
    return f"{table(head, body)}\n\nOne core of {machine_line(found, FILE)}"


def _predicted(results: Path, row: dict) -> str:
    """Of the compiled step, by the newest offline report of this preset and batch."""
    from benchmarks.offline import tables, text

    if row["engine"] != "compiled":
        return ""
    times = ""
    for name in (*(name for name, _ in tables.STEPS), *(name for name, _ in tables.OTHERS)):
        if not (results / name).exists():
            continue
        report = tables.load(results / name)
        if (report["preset"], report["batch"]) == (row["preset"], row["batch"]):
            times = f"{1e3 * text.step_seconds(report)['H200']:.1f}"
    return times


def _case(text: str) -> str:
    from tmgan.config import configfile

    preset, _, batch = text.partition(":")
    if preset not in configfile.presets() or not batch.isdecimal() or int(batch) < 2:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not PRESET:BATCH, such as editor:32; presets are {', '.join(configfile.presets())}"
        )
    return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step.host", description=__doc__.partition("\n")[0])
    parser.add_argument("--presets", nargs="+", type=_case, default=list(PRESETS), metavar="PRESET:BATCH")
    parser.add_argument("--out", type=Path, help=f"write the document there, as benchmarks/results/{FILE}")
    arguments = parser.parse_args()
    if build.INSIDE not in os.environ:
        try:
            return build.run_under("benchmarks.step.host", sys.argv[1:])
        except RuntimeError as error:
            parser.error(str(error))
    found = document(arguments.presets)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    build.leave()


if __name__ == "__main__":
    sys.exit(main())

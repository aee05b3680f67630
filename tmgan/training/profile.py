"""A few steps under torch's profiler: a Chrome trace, and the largest kernels or operators of each part."""

from __future__ import annotations

import bisect
import gzip
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch.profiler import ProfilerActivity

from tmgan.common.files import write_atomically
from tmgan.training.loaders.batch import Batch
from tmgan.training.step import TrainStep

_STEPS = 3  # that are recorded, after two that are not
_LARGEST = 5  # operations that are shown of each part
_ENDINGS = (".json", ".json.gz")
BETWEEN = "(between operations)"  # on a CPU: Python, and what no operator reports
ELSEWHERE = "outside all parts"


class Row(NamedTuple):
    """What one kernel or operator took in a part: microseconds by itself, and calls, of all recorded steps."""

    part: str
    name: str
    microseconds: float
    calls: int


def check_file(file: Path) -> None:
    """ValueError unless a trace can be written to `file`. Called before anything runs."""
    if not file.name.endswith(_ENDINGS):
        raise ValueError(f"--profile {file}: a trace is written as {' or '.join(_ENDINGS)}; choose such a name.")
    if not file.parent.is_dir():
        raise ValueError(f"--profile {file}: there is no folder {file.parent}. Make it, or choose another file.")
    if file.is_dir():
        raise ValueError(f"--profile {file} is a folder; choose another name.")


def report(step: TrainStep, batch: Batch, file: Path) -> Iterator[str]:
    """Record steps, write the trace to `file`, whole or not at all, and give the table line by line."""
    profiler, names = _record(step, batch)
    write_atomically(file, lambda opened: _write_trace(profiler, opened, file.name.endswith(".gz")))
    device = batch.images.device.type
    clock = "the GPU's time" if device == "cuda" else "processor time"
    found = rows(profiler.events(), names, device == "cuda")
    if not found:
        yield "The profiler saw no kernel: CUPTI, which reports them, does not work here; its own message is above."
    yield from table(found, names)
    yield f"{_STEPS} steps, {clock}; slower than without a profiler. Trace for chrome://tracing or Perfetto: {file}"


def _record(step: TrainStep, batch: Batch) -> tuple[torch.profiler.profile, list[str]]:
    on_gpu = batch.images.is_cuda
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    for i in range(2):
        step(batch, i * len(batch.images))
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        for i in range(_STEPS):
            step(batch, (2 + i) * len(batch.images))
        if on_gpu:
            torch.cuda.synchronize()
    return profiler, [name for name, _ in step.parts(batch, {})]


def _write_trace(profiler: torch.profiler.profile, file: BinaryIO, packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        with path.open("rb") as trace:
            if packed:
                with gzip.GzipFile(fileobj=file, mode="wb") as archive:
                    shutil.copyfileobj(trace, archive)
            else:
                shutil.copyfileobj(trace, file)


def rows(events: Any, names: list[str], on_gpu: bool) -> list[Row]:
    """What each kernel (on a GPU) or operator took in each part, the largest first.

    Args:
        events: torch.profiler's, of steps whose parts have these names.
    """
    host = [event for event in events if event.device_type == torch.autograd.DeviceType.CPU]
    ranges = sorted(
        (event.time_range.start, event.time_range.end, event.name)
        for event in host
        if event.is_user_annotation and event.name in names
    )
    starts = [start for start, _, _ in ranges]

    def part_of(event: Any) -> str:
        place = bisect.bisect_right(starts, event.time_range.start) - 1
        # The backward pass of a GPU has a thread of its own, so the time is asked and not what encloses what.
        inside = place >= 0 and event.time_range.start <= ranges[place][1]
        return ranges[place][2] if inside else ELSEWHERE

    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0])
    for event in host:
        part = part_of(event)
        if on_gpu:
            taken = [(kernel.name, kernel.duration) for kernel in event.kernels]
        elif event.is_user_annotation and event.name in names:
            taken = [(BETWEEN, event.self_cpu_time_total)]
        else:
            taken = [(event.name, event.self_cpu_time_total)]
        for name, microseconds in taken:
            entry = sums[part, name]
            entry[0] += microseconds
            entry[1] += 1
    found = [Row(part, name, microseconds, int(calls)) for (part, name), (microseconds, calls) in sums.items()]
    return sorted(found, key=lambda row: -row.microseconds)


def table(found: list[Row], names: list[str], steps: int = _STEPS) -> Iterator[str]:
    """Lines: each part in the order of the step, and below it what took most of it; numbers are per step."""
    whole = sum(row.microseconds for row in found) or 1.0
    yield f"{'ms':>9}{'share':>8}{'calls':>8}"
    for part in [*names, ELSEWHERE]:
        inside = [row for row in found if row.part == part]
        taken = sum(row.microseconds for row in inside)
        if not inside or (part == ELSEWHERE and taken < 0.001 * whole):
            continue
        yield f"{taken / steps / 1e3:9.2f}{taken / whole:8.1%}{'':8}  {part}"
        for row in inside[:_LARGEST]:
            share = row.microseconds / whole
            yield f"{row.microseconds / steps / 1e3:9.2f}{share:8.1%}{row.calls / steps:8.1f}    {row.name[:90]}"

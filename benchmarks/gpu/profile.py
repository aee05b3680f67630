"""A profile of training steps by component and label: every kernel put where the offline prediction has it.

    python -m benchmarks.gpu.profile OUT/trace-compiled.json.gz      the table again, from a trace that 1-step.sh left

A component is a graph of the compiled step ("generate forward", ...) or what lies outside the graphs; a label is a
kind of work (benchmarks/offline/predict.py). Both are read off a Chrome trace of torch.profiler, whose fields have
stayed the same for years, unlike torch's own event objects:

- A kernel's "correlation" is that of the call of CUDA's runtime or driver that launched it. The component is taken by
  the moment of that call on the host, whatever its thread: autograd launches the backward pass from a thread of its
  own while `backward()` waits, and parts follow each other. The ranges that the profiler shows on the GPU's timeline
  (gpu_user_annotation) hold kernels of the thread that opened them only, so that backward passes would be lost.
- Its "External id" is that of the innermost operator or range around the launch. The operators around that one, by time
  and thread, say what the kernel was for: a copy within aten::convolution_backward belongs to the convolution.

Time is counted once: where kernels overlap it belongs to the earlier one, and what lies between the end of all kernels
before and the start of the next is a gap before that kernel. So components and labels add up to the whole.
"""

from __future__ import annotations

import argparse
import bisect
import gzip
import json
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu.supervisor import Options
from benchmarks.offline.comparison import JOINED, written
from benchmarks.offline.counting import CONVOLUTION, FUSED, OTHER, identity, kind_of
from benchmarks.offline.predict import ADAM as OUTSIDE
from benchmarks.offline.predict import LAUNCHES, label

LARGEST = 40  # kernels of a profile, by name
STEPS = 3  # that are counted, after one that warms up
# The graphs of each part of a step (TrainStep.parts), in the order in which they are called. What a part launches
# outside its graphs, and the other parts whole, are the component OUTSIDE: Adam, the gradients' guard, the average.
GRAPHS = {
    "generate": ("generate forward",),
    "discriminator loss": ("discriminator forward",),
    "discriminator backward": ("discriminator backward",),
    "discriminator update": (),
    "generator loss": ("losses of the generator forward",),
    "generator backward": ("losses of the generator backward", "generate backward"),
    "generator update": (),
    "average": (),
}
LAST = "average"  # part of a step
_CALL = "## Call CompiledFxGraph"  # Inductor's range around each call of a graph, while a profiler runs
_WORK = ("kernel", "gpu_memcpy", "gpu_memset")
_LAUNCHED_BY = ("cuda_runtime", "cuda_driver")
_MOST_UNKNOWN = 0.01  # share of the kernels' time whose launch may be missing


class Op(NamedTuple):
    """An operator on the host: microseconds, sizes and dtypes of its arguments, [] and "" where they are no tensors."""

    name: str
    start: float
    end: float
    shapes: tuple = ()
    dtypes: tuple = ()


class Kernel(NamedTuple):
    """A kernel, copy or fill on the GPU.

    Attributes:
        start, end: microseconds.
        launched: when, on the host; None if that is not known.
        ops: the operators around the launch, the outermost first.
    """

    name: str
    start: float
    end: float
    launched: float | None = None
    ops: tuple[Op, ...] = ()


class Range(NamedTuple):
    """A named range on the host."""

    name: str
    start: float
    end: float


class Trace(NamedTuple):
    kernels: list[Kernel]  # by start
    ranges: list[Range]  # parts of steps and calls of graphs, by start


# ------------------------------------------------------------------- the trace
def load(path: Path) -> dict:
    """A Chrome trace, packed or not."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode(errors="replace")
    return json.loads(text, strict=False)  # names of kernels may hold anything


def read(document: dict) -> Trace:
    """Kernels with what launched them, and the ranges of parts and graphs, of a Chrome trace."""
    events = [event for event in document["traceEvents"] if event.get("ph") == "X" and "dur" in event]
    ops: dict[object, list[tuple[object, Op]]] = defaultdict(list)  # by thread: (external id, operator)
    ranges, launches = [], {}
    for event in events:
        start, category, about = float(event["ts"]), event.get("cat"), event.get("args", {})
        end = start + float(event["dur"])
        if category in ("cpu_op", "user_annotation"):
            if event["name"] in GRAPHS or event["name"].startswith(_CALL):
                ranges.append(Range(event["name"], start, end))
            shapes = tuple(map(_plain, about.get("Input Dims", ())))
            op = Op(event["name"], start, end, shapes, tuple(about.get("Input type", ())))
            ops[event.get("pid"), event.get("tid")].append((about.get("External id"), op))
        elif category in _LAUNCHED_BY and "correlation" in about:
            launches[about["correlation"]] = start
    around = {}
    for members in ops.values():
        around |= _around(members)
    kernels = []
    for event in events:
        if event.get("cat") in _WORK:
            start, about = float(event["ts"]), event.get("args", {})
            enclosing = around.get(about.get("External id"), ())
            launched = launches.get(about.get("correlation"), enclosing[-1].start if enclosing else None)
            kernels.append(Kernel(event["name"], start, start + float(event["dur"]), launched, enclosing))
    return Trace(sorted(kernels, key=lambda kernel: kernel.start), sorted(ranges, key=lambda range: range.start))


def _plain(value: object) -> object:
    return tuple(map(_plain, value)) if isinstance(value, list) else value


def _around(members: list[tuple[object, Op]]) -> dict[object, tuple[Op, ...]]:
    """Each operator of a thread and those around it, the outermost first, by its external id."""
    found: dict[object, tuple[Op, ...]] = {}
    open_ops: list[Op] = []
    for number, op in sorted(members, key=lambda member: (member[1].start, -member[1].end)):
        while open_ops and open_ops[-1].end <= op.start:
            open_ops.pop()
        open_ops.append(op)
        if number is not None:
            found[number] = tuple(open_ops)
    return found


# -------------------------------------------------------------- classification
def classify(kernel: Kernel) -> tuple[str, str, str]:
    """(label, what, sizes): what the prediction calls the kernel's kind of work, the operator, what that was given.

    Raises ValueError for a convolution whose sizes were not recorded.
    """
    for op in kernel.ops:
        space, _, name = op.name.partition("::")
        kind = kind_of(space, name) if space in ("aten", "tmgan_kernels") else OTHER
        if kind == OTHER:
            continue
        what, sizes = identity(name, op.shapes)
        if not sizes:
            raise ValueError(f"the profile has no sizes of {op.name}: record it with record_shapes=True")
        row = {"kind": kind, "dtype": "float32" if "float" in op.dtypes[:3] else "bfloat16"}
        if kind == CONVOLUTION:
            row["width"] = min(sizes[-1][:2])
        return label(row), what, written(sizes)
    if kernel.name.startswith("triton_"):
        return FUSED, "", ""
    operators = [op.name.removeprefix("aten::") for op in kernel.ops if op.name.startswith("aten::")]
    return OTHER, operators[0] if operators else kernel.name[:60], ""


class Components:
    """Tells each kernel's component.

    Args:
        ranges: of a trace, by start.
    """

    def __init__(self, ranges: list[Range]):
        self._parts = [each for each in ranges if each.name in GRAPHS]
        self._starts = [part.start for part in self._parts]
        self._calls = [[each for each in ranges if each.name not in GRAPHS and _within(each, p)] for p in self._parts]
        self._ends = [part.end for part in self._parts if part.name == LAST]
        self.steps = len(self._ends)

    def step(self, kernel: Kernel) -> int:
        """0 for the first; `steps` after the last."""
        return bisect.bisect_left(self._ends, kernel.launched or 0.0)

    def __call__(self, kernel: Kernel) -> str:
        """Name of a graph, of graphs that cannot be told apart (joined), or OUTSIDE."""
        moment = kernel.launched or 0.0
        place = bisect.bisect_right(self._starts, moment) - 1
        if place < 0 or moment > self._parts[place].end:
            return OUTSIDE
        graphs, calls = GRAPHS[self._parts[place].name], self._calls[place]
        if graphs and len(calls) != len(graphs):  # nothing is compiled, or not by Inductor
            return JOINED.join(graphs)
        inside = [graph for graph, call in zip(graphs, calls, strict=True) if call.start <= moment <= call.end]
        return inside[0] if inside else OUTSIDE


def _within(inner: Range, outer: Range) -> bool:
    return outer.start <= inner.start <= outer.end


def components(trace: Trace) -> list[dict]:
    """Rows as comparison.ROW has them, per step: kernels by component, label, operator and sizes, and each one's gaps.

    The first step warms up, where there are more. Raises ValueError where the trace does not say what launched a
    kernel, or has no step.
    """
    component_of = Components(trace.ranges)
    if trace.kernels and not component_of.steps:
        raise ValueError(f"the profile has kernels and no part {LAST!r} of a step: profile whole steps of TrainStep")
    first = min(1, component_of.steps - 1)
    sums: dict[tuple[str, str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    component, step, unknown = OUTSIDE, 0, 0.0
    end = trace.kernels[0].start if trace.kernels else 0.0
    for kernel in trace.kernels:
        if kernel.launched is None or not kernel.ops:
            unknown += kernel.end - kernel.start
        if kernel.launched is not None:  # else it goes with the one before it
            component, step = component_of(kernel), component_of.step(kernel)
        gap, busy = max(0.0, kernel.start - end), max(0.0, kernel.end - max(kernel.start, end))
        end = max(end, kernel.end)
        if not first <= step < component_of.steps:
            continue
        kind, what, sizes = classify(kernel)
        if component == OUTSIDE and kind == OTHER:
            kind = FUSED  # as the prediction has it: all of it is bound by memory
        for key, time in (((component, kind, what, sizes), busy), ((component, LAUNCHES, "", ""), gap)):
            sums[key][0] += time
            sums[key][1] += 1
    whole = sum(kernel.end - kernel.start for kernel in trace.kernels)
    if unknown > _MOST_UNKNOWN * whole:
        raise ValueError(f"the profile does not say what launched {unknown / whole:.0%} of the kernels' time")
    steps = component_of.steps - first
    return [
        {
            **dict(zip(("component", "label", "what", "sizes"), key, strict=True)),
            "seconds": time * 1e-6 / steps,
            "kernels": count / steps,
        }
        for key, (time, count) in sums.items()
    ]


def table(rows: list[dict]) -> list[str]:
    """Lines: milliseconds and kernels per step of each component and label."""
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in rows:
        entry = sums[row["component"], row["label"]]
        entry[0] += row["seconds"]
        entry[1] += row["kernels"]
    lines = [f"{'ms per step':>12}{'kernels':>9}  component: label"]
    for (component, kind), (seconds, kernels) in sorted(sums.items()):
        lines.append(f"{1e3 * seconds:12.3f}{kernels:9.1f}  {component}: {kind}")
    return [*lines, f"{1e3 * sum(row['seconds'] for row in rows):12.3f} ms per step in all"]


# --------------------------------------------------------------- the recording
def profile(synthetic, options: Options, file: Path | None = None) -> dict:
    """Run a few steps under torch's profiler.

    Launches take longer under it, so gaps are more than those of a step that is only timed.

    Args:
        synthetic: step and batch, as bench.synthetic_step makes them.
        file: also leave the trace there, packed; it ends in .json.gz.

    Returns:
        "kernels": those that take the most time, largest first; on a CPU, torch's operations. "components": the rows of
        components(), none on a CPU, and none where the trace cannot be read: "unread" then says why.
    """
    import torch
    from torch.profiler import ProfilerActivity

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if options.gpu else [])]
    with torch.profiler.profile(activities=activities, record_shapes=True) as profiler:
        for i in range(1 + STEPS):
            synthetic.step(synthetic.batch, i)
        if options.gpu:
            torch.cuda.synchronize()
    rows = largest(profiler, options.gpu, 1 + STEPS)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json.gz"
        profiler.export_chrome_trace(str(trace))
        if file is not None:
            shutil.copyfile(trace, file)
        try:
            found = components(read(load(trace)))
        except (ValueError, KeyError) as error:  # the kernels by name are worth keeping, and the trace was left
            return {"kernels": rows, "components": [], "unread": f"{type(error).__name__}: {error}"}
    if found:
        print(*table(found), sep="\n", flush=True)
    return {"kernels": rows, "components": found}


def largest(profiler, on_gpu: bool, steps: int) -> list[dict]:
    """The kernels by name, or on a CPU the operations, that take the most time of a step; also printed."""
    import torch

    def microseconds(event) -> float:
        return event.self_device_time_total if on_gpu else event.self_cpu_time_total

    device = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    events = [
        event
        for event in profiler.key_averages()
        if event.device_type == device and not getattr(event, "is_user_annotation", False)
    ]
    if not events:
        raise RuntimeError("the profiler saw no kernel: CUPTI, which reports them, does not work here")
    total = sum(map(microseconds, events))
    rows = [
        {
            "name": event.key,
            "calls": event.count / steps,
            "microseconds": microseconds(event) / steps,
            "share": microseconds(event) / total,
        }
        for event in sorted(events, key=microseconds, reverse=True)[:LARGEST]
    ]
    print(
        f"{'us per step':>12}{'calls':>8}{'share':>8}  kernel",
        *(f"{row['microseconds']:12.1f}{row['calls']:8.1f}{row['share']:8.1%}  {row['name'][:120]}" for row in rows),
        f"{total / steps:12.1f} us per step in all",
        sep="\n",
        flush=True,
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("trace", type=Path)
    try:
        print(*table(components(read(load(parser.parse_args().trace)))), sep="\n")
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"cannot read a step from this trace: {error}")


if __name__ == "__main__":
    main()

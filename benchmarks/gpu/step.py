"""1-step.sh: every operation and engine once, then the step by engine, its parts, memory and largest kernels."""

from __future__ import annotations

import dataclasses
import math
import time

from benchmarks import machine
from benchmarks.gpu import profile, supervisor
from benchmarks.gpu.journal import Journal
from benchmarks.gpu.supervisor import Options, Task, alone

SMOKED = (
    "instance_norm_glu",
    "masked_mae",
    "box_blur",
    "gather_crop",
    "laplace_sharpness",
    "sharpness_score",
    "sharp_regions",
    "naive_sharpness_loss",
    "scale_gradient",
    "sharp_gradient",
    "gaussian_blur",
    "mask_score",
    "match_histogram",
    "change_mask",
)
ENGINES = ("eager", "compiled", "graphed")
PARTS = (
    "generate",
    "discriminator loss",
    "discriminator backward",
    "discriminator update",
    "generator loss",
    "generator backward",
    "generator update",
    "average",
)
BATCH = 40
SECONDS = 8.0  # of timing per engine, and as long again for its parts
SMOKING, EAGER = 150, 200  # seconds at most: what hangs there must leave a compiler its minutes


def smoke_rows() -> dict[str, tuple[str, str]]:
    """Row: (operation, dtype). gather_crop reads bytes."""
    return {
        f"smoke {name} {dtype}": (name, dtype)
        for name in SMOKED
        for dtype in (("uint8",) if name == "gather_crop" else ("float32", "bfloat16"))
    }


def engine_rows(engine: str, batch: int) -> tuple[str, ...]:
    parts = () if engine == "graphed" else (*PARTS, "profile")
    return tuple(f"{engine} batch {batch} {what}" for what in ("three steps", "step", *parts))


def tasks(options: Options) -> list[Task]:
    batch = 2 if options.dry else BATCH
    smoke = (*smoke_rows(), "smoke graph capture", *(f"smoke {engine} engine" for engine in ENGINES))
    all_tasks = [build_task(options), Task("smoke", smoke_all, smoke, SMOKING)]
    for engine in ENGINES:
        all_tasks.append(
            Task(
                engine,
                lambda journal, options, engine=engine: measure(journal, options, engine, batch),
                engine_rows(engine, batch),
                EAGER if engine == "eager" else 1e9,
                impossible="needs a GPU" if engine == "graphed" and not options.gpu else "",
            )
        )
    return all_tasks


def build_task(options: Options) -> Task:
    return Task(
        "nvcc", build, ("nvcc build",), background=True, impossible="left out of a dry run" if options.dry else ""
    )


# --------------------------------------------------------------------- the tasks
def build(journal: Journal, options: Options) -> None:
    """The CUDA C++ kernels, for 3-kernels.sh."""
    from tmgan_kernels import build as csrc

    try:
        journal.row("nvcc build", shown=str(csrc.build().name))
    except Exception as error:
        journal.error("nvcc build", error)


def smoke_all(journal: Journal, options: Options) -> None:
    """Each by itself; where this process loses the GPU, another one does the rest."""
    from benchmarks.gpu.journal import rows

    rows_by_name = rows(journal.lines())
    tests = {row: lambda key=key: smoke_operation(*key, options) for row, key in smoke_rows().items()}
    tests["smoke graph capture"] = lambda: smoke_capture(options)
    tests |= {f"smoke {engine} engine": lambda engine=engine: smoke_engine(engine, options) for engine in ENGINES}
    for row, test in tests.items():
        if row in rows_by_name:
            continue
        start = time.perf_counter()
        try:
            reason = test()
        except Exception as error:
            journal.error(row, error)
            leave_if_lost(options)
        else:
            seconds = time.perf_counter() - start
            journal.row(row, **({"reason": reason} if reason else {"seconds": seconds, "shown": f"{seconds:.1f} s"}))


def leave_if_lost(options: Options) -> None:
    """An illegal access ends the CUDA context: every later row would fail for it."""
    import torch

    if not options.gpu:
        return
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except Exception:
        raise SystemExit(supervisor.AGAIN) from None


def smoke_operation(name: str, dtype: str, options: Options) -> None:
    """Forward and backward by Triton, compared with the definition."""
    from benchmarks.kernels import cases
    from benchmarks.kernels.prepare import Prepared

    edge = 256 if options.gpu else 16
    channels = {"instance_norm_glu": 64 if options.gpu else 4, "sharp_regions": 1}.get(name, 3)
    layout = "nhwc" if name in ("instance_norm_glu", "gather_crop") else "nchw"
    case = cases.Case(name, (4 if options.gpu else 1, channels, edge, edge), dtype, layout, cases.options_of(name)[0])
    Prepared(case, "triton", 1)


def smoke_capture(options: Options) -> str | None:
    from benchmarks.kernels import cases, timer
    from benchmarks.kernels.prepare import Prepared

    if not options.gpu:
        return "needs a GPU"
    case = cases.Case("instance_norm_glu", (4, 64, 64, 64), "bfloat16", "nhwc")
    with timer.on_stream():
        work = Prepared(case, "triton", 2)
    clock = timer.GraphTimer(lambda: work.call("both"), 2)
    clock.round()
    return None


def smoke_engine(engine: str, options: Options) -> str | None:
    """Three steps of small networks; compiled and graphed by Dynamo alone, whose code needs no compiler."""
    import torch

    if engine == "graphed" and not options.gpu:
        return "needs a GPU"
    synthetic, _, _ = synthetic_step(engine, 2, options, "quickstart", "eager")
    three_steps(synthetic)
    torch._dynamo.reset()
    return None


def synthetic_step(engine: str, batch: int, options: Options, preset: str = "", backend: str = "inductor"):
    """(step and batch, config, runtime); the paper's combined method unless a preset is named."""
    from benchmarks.step.measure import settings, threads
    from tmgan.config.runtime import decide
    from tmgan.config.settings import RuntimeConfig
    from tmgan.training import bench

    runtime = decide(RuntimeConfig(threads=threads(), device="auto" if options.gpu else "cpu"))
    config = settings(options.gpu, batch, preset or ("quickstart" if options.dry else ""))
    synthetic = bench.synthetic_step(config, dataclasses.replace(runtime, engine=engine), backend=backend)
    return synthetic, config, runtime


def three_steps(synthetic) -> None:
    """Raises where a loss is not finite."""
    for i in range(3):
        losses = {name: loss.item() for name, loss in synthetic.step(synthetic.batch, i).items()}
        if wrong := [name for name, loss in losses.items() if not math.isfinite(loss)]:
            raise ArithmeticError(f"step {i}: {', '.join(wrong)} not finite: {losses}")


def measure(journal: Journal, options: Options, engine: str, batch: int) -> None:
    """The rows of one engine, the most important first; a part that fails does not affect the others."""
    import torch

    from benchmarks.step import measure as measure_steps
    from tmgan.training import bench

    def row(what: str) -> str:
        return f"{engine} batch {batch} {what}"

    start = time.perf_counter()
    # A compiler takes minutes on a CPU, and what it makes there says nothing: a dry run takes Dynamo alone.
    backend = "eager" if options.dry else "inductor"
    synthetic, config, runtime = synthetic_step(engine, batch, options, backend=backend)
    try:
        three_steps(synthetic)
    except Exception as error:
        journal.error(row("three steps"), error)
        raise
    seconds = time.perf_counter() - start
    memory = measure_steps.peak_bytes(runtime)  # of the later two steps, or of a graph's capture: parts.py, engine.py
    journal.row(row("three steps"), seconds=seconds, shown=f"{seconds:.0f} s with building and compiling")
    with alone():
        peak = bench.peak(runtime.device, runtime.precision, 0.2 if options.dry else 1.0, measure_steps.clock(runtime))
    work = counted(journal, batch)
    if engine == "eager":
        work = bench.gflop(synthetic.step, synthetic.batch)
    work = work or measure_steps.step_gflop(config, runtime)
    journal.add(
        "settings",
        peak_gflops=peak,
        settings=measure_steps.settings_of(config, runtime),
        machine=machine.describe(runtime.device.type),
    )
    if options.gpu:
        torch.cuda.empty_cache()
    timing = 0.5 if options.dry else SECONDS
    with alone():
        whole = measure_steps.measure_step(synthetic, engine, config, runtime, work, peak, timing) | memory
    size = f", {whole['peak_bytes'] / 2**30:.1f} GiB" if whole["peak_bytes"] else ""
    journal.row(row("step"), batch=batch, **whole, shown=f"{whole['images_per_second']:.1f} images/s{size}")
    if engine == "graphed":
        return
    try:
        with alone():
            parts = measure_steps.measure_parts(synthetic, engine, config, runtime, work, peak, timing)
        for part in parts:
            journal.row(row(part["part"]), batch=batch, **part, shown=f"{1e3 * part['seconds']:.2f} ms")
    except Exception as error:
        journal.error(row("parts"), error)
    try:
        with alone():
            trace = options.out / f"trace-{engine}.json.gz" if options.gpu else None
            found = profile.profile(synthetic, options, trace)
        largest = found["kernels"][0]
        journal.row(row("profile"), **found, shown=f"largest: {largest['name'][:50]}, {largest['share']:.0%}")
    except Exception as error:
        journal.error(row("profile"), error)


def counted(journal: Journal, batch: int) -> dict[str, float]:
    """The work of each part as the eager engine's rows have it, which is that of all engines; empty without them."""
    from benchmarks.gpu.journal import rows

    rows_by_name = rows(journal.lines())
    known = {part: rows_by_name.get(f"eager batch {batch} {part}", {}).get("gflop_per_image") for part in PARTS}
    return {part: work for part, work in known.items() if work is not None} if None not in known.values() else {}


if __name__ == "__main__":
    supervisor.main("1-step", "benchmarks.gpu.step", tasks)

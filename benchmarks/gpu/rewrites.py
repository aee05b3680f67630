"""2-rewrites.sh: what each change of the step is worth, at two batch sizes. Every change runs in its own process.

On a GPU they compile side by side, as many as its memory holds, and are timed one at a time while the others are
stopped. What Inductor tunes while it compiles is tuned beside the others' work; the base, which is timed first and
again at the end, says how much the card drifted. Without a GPU: thin networks, one process after another.
"""

from __future__ import annotations

import functools
import os

from benchmarks import machine
from benchmarks.gpu import supervisor
from benchmarks.gpu.journal import Journal
from benchmarks.gpu.supervisor import Options, Task, alone, until_last

BATCHES = (40, 128)  # at which every change is measured
# Whole steps at other batches, for memory and for the ratio to the published step at its own batch: they compile beside
# the others here, which costs least.
OTHER_BATCHES = (("nothing", 64), ("nothing", 10), ("graphed", 10))
GIGABYTES = {10: 8, 40: 20, 64: 32, 128: 60}  # of GPU memory per process, about: how many run at once
WIDTH = 6  # at most, so that each has cores to compile with
SECONDS = 6.0  # of timing per change
BASE = "nothing"
# By importance. The first five come before the base and these five at the larger batch, the others after.
FIRST = (
    "composed affine",
    "discriminator in one pass",
    "instance_norm_glu by Inductor",
    "fourfold convolutions",
    "frozen bias and ReLU by cuDNN",
)
OTHERS = (
    "3 channels padded to 8",
    "nearest doubling by F.interpolate",
    "pooling and resizing by torch",
    "fp32 products without TF32",
    "phase convolutions",
    "3 channels padded to 4",
    "graphed",
    "all fused operations by Inductor",
    "NCHW",
    "fp32",
    "two affine convolutions",
    "batch norms not folded",
    "discriminator not frozen while it judges",
    "flat gradient buffers",
    "gradients not guarded",
    "eager",
)
ON_GPU = {
    "graphed",
    "eager",
    "instance_norm_glu by Inductor",
    "all fused operations by Inductor",
    "fp32",
    "frozen bias and ReLU by cuDNN",
    "fp32 products without TF32",
}


def plan(options: Options) -> list[tuple[str, int]]:
    """(change, batch) in order."""
    if options.dry:
        return [(BASE, 2), ("composed affine", 2), ("graphed", 2)]
    if not options.gpu:
        return [(change, 2) for change in (BASE, *FIRST, *OTHERS, "compiled") if change not in ON_GPU]
    small, large = BATCHES
    return [(change, batch) for batch in (small, large) for change in (BASE, *FIRST)] + [
        *OTHER_BATCHES,
        *((change, batch) for batch in (small, large) for change in OTHERS),
    ]


def row_of(change: str, batch: int) -> str:
    return f"{change} batch {batch}"


def compared(change: str, batch: int) -> bool:
    """Whether it is what changes at this batch are compared with, so that it is timed again at the end."""
    return change == BASE and (change, batch) not in OTHER_BATCHES


def tasks(options: Options) -> list[Task]:
    all_tasks = []
    for change, batch in plan(options):
        row = row_of(change, batch)
        again = (f"{row} again",) if compared(change, batch) else ()
        work = functools.partial(measure, change=change, batch=batch)
        all_tasks.append(
            Task(
                row,
                work,
                (row, *again),
                gigabytes=GIGABYTES.get(batch, 0) if options.gpu else 0,
                waits=bool(again),
                impossible="needs a GPU" if change in ON_GPU and not options.gpu else "",
            )
        )
    return all_tasks


def measure(journal: Journal, options: Options, change: str, batch: int) -> None:
    row = row_of(change, batch)
    beside = min(WIDTH, int(machine.gpu_gigabytes() / GIGABYTES[batch])) if options.gpu else 1
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(len(os.sched_getaffinity(0)) // max(1, beside) or 1))
    import torch

    from benchmarks.gpu.changes import CHANGES
    from benchmarks.step import measure as measure_steps
    from tmgan.config.runtime import decide
    from tmgan.config.settings import RuntimeConfig
    from tmgan.training import bench

    runtime = decide(RuntimeConfig(threads=measure_steps.threads(), device="auto" if options.gpu else "cpu"))
    config = measure_steps.settings(options.gpu, batch, "quickstart" if options.dry else "")
    seconds = 0.5 if options.dry else SECONDS

    def timed(synthetic: bench.SyntheticStep, name: str) -> None:
        with alone():
            torch.backends.cudnn.benchmark = options.gpu
            bench.time_step(synthetic.step, synthetic.batch, 0, 2)
            if change != "graphed":  # whose memory was taken when it was captured
                measure_steps.forget_peak(runtime)
            clock = measure_steps.clock(runtime)
            spread = bench.time_step(synthetic.step, synthetic.batch, seconds, measure_steps.LEAST, clock)
        speed = batch / spread.median
        journal.row(
            name,
            change=change,
            batch=batch,
            engine=CHANGES[change].runtime.get("engine", runtime.engine),
            **measure_steps.times(spread),
            images_per_second=speed,
            **measure_steps.peak_bytes(runtime),
            shown=f"{speed:.1f} images/s, iqr {1e3 * spread.iqr:.1f} ms",
        )

    try:
        with CHANGES[change].synthetic_step(config, runtime) as synthetic:
            # Compiles while others compile. cuDNN tries its algorithms later, alone; a graph takes what it finds.
            torch.backends.cudnn.benchmark &= change == "graphed"
            synthetic.step(synthetic.batch, 0)
            bench.synchronise(runtime.device)
            timed(synthetic, row)
            if not compared(change, batch):
                return
            # For the document: the same step as a row of an engine, with the work that it does.
            with alone():
                peak = bench.peak(
                    runtime.device, runtime.precision, 0.2 if options.dry else 1.0, measure_steps.clock(runtime)
                )
            work = measure_steps.step_gflop(config, runtime)
            journal.add(
                "settings",
                peak_gflops=peak,
                settings=measure_steps.settings_of(config, runtime),
                machine=machine.describe(runtime.device.type),
                base={"engine": runtime.engine, "gflop_per_image": sum(work.values())},
            )
            if options.gpu:
                torch.cuda.empty_cache()  # the others need it more while this one waits
            until_last()
            timed(synthetic, f"{row} again")
    except Exception as error:
        if change == BASE and row in {line.get("row") for line in journal.lines()}:
            row = f"{row} again"
        journal.error(row, error)


if __name__ == "__main__":
    supervisor.main("2-rewrites", "benchmarks.gpu.rewrites", tasks, width=WIDTH, needs_gpu=False)

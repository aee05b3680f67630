"""4-rest.sh: what the first three leave out.

Rivals, torch.compile, the sanitizer, 2^31 values, the published step at two batches, loaders, time to the first step.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import machine
from benchmarks.gpu import supervisor
from benchmarks.gpu.journal import Journal
from benchmarks.gpu.kernels import TESTS, loader, name_of, run_pytest, speed, without_dali
from benchmarks.gpu.supervisor import Options, Task, alone
from benchmarks.kernels import cases

PUBLISHED = (40, 10)  # the batch of 1-step.sh, then that of the published code
STARTED = ("compiled", "eager", "graphed")
CHECKS = ("memcheck", "racecheck")  # initcheck would report torch's own
LARGE = tuple(
    f"2^31 {path.name}"
    for path in sorted(TESTS.glob("test_*.py"))
    if path.stem not in ("test_aot", "test_gather_crop", "test_import", "test_library", "test_pieces", "test_verify")
)  # have no such test


def tasks(options: Options) -> list[Task]:
    rivals, by_compile = plan_rows(options, ("best-eager", "kornia")), plan_rows(options, ("compile", "compile-max"))
    no_gpu, dry = "" if options.gpu else "needs a GPU", "left out of a dry run" if options.dry else ""
    absent = [package for package in ("xdist", "pytest_benchmark") if importlib.util.find_spec(package) is None]
    no_caches = no_gpu or (f"needs {', '.join(absent)}" if absent else "")
    no_tool = no_gpu or ("" if shutil.which("compute-sanitizer") else "no compute-sanitizer on the PATH")
    return [
        *(
            Task(
                f"published {batch}",
                lambda journal, options, batch=batch: published(journal, options, batch),
                (f"published batch {batch}",),
                100,
                impossible=dry,
            )
            for batch in PUBLISHED
        ),
        Task("large", large, LARGE, 90, impossible=no_gpu),
        Task("compile caches", fill_caches, ("compile caches",), 120, impossible=no_caches),
        Task(
            "compile",
            lambda journal, options: speed(journal, options, by_compile),
            tuple(name_of(*entry) for entry in by_compile),
            180,
        ),
        *(
            Task(
                f"sanitizer {check}",
                lambda journal, options, check=check: sanitize(journal, options, check),
                (f"sanitizer {check}",),
                120,
                impossible=no_tool,
            )
            for check in CHECKS
        ),
        *(
            Task(
                kind,
                lambda journal, options, kind=kind: loader(journal, options, kind, 30),
                (kind,),
                60,
                impossible=dry or (without_dali(options) if kind == "dali" else ""),
            )
            for kind in ("resident", "dali", "pillow")
        ),
        Task(
            "rivals",
            lambda journal, options: speed(journal, options, rivals),
            ("copy", *(name_of(*entry) for entry in rivals)),
            90,
        ),
        *(
            Task(
                f"start {engine}",
                lambda journal, options, engine=engine: start(journal, options, engine),
                (f"start {engine} cold", f"start {engine} warm"),
                impossible=dry or no_gpu,
            )
            for engine in STARTED
        ),
    ]


def plan_rows(options: Options, providers: tuple[str, ...]) -> list[tuple[cases.Case, str, str]]:
    if options.dry:
        toy = cases.Case("box_blur", (2, 3, 16, 16), options=(("kernel_size", 5),))
        entries = [(toy, provider) for provider in providers if provider == "best-eager"]
    else:
        entries = [entry for entry in cases.gpu_plan() if entry[1] in providers]
        entries.sort(key=lambda entry: not cases.in_goals(entry[0]))
    return [(case, provider, which) for case, provider in entries for which in cases.OPERATIONS[case.operation].passes]


def published(journal: Journal, options: Options, batch: int) -> None:
    """The step as it was published, with the combined method's segmentation."""
    from benchmarks.step import measure as measure_steps
    from tmgan.config.runtime import decide
    from tmgan.config.settings import RuntimeConfig
    from tmgan.training import bench

    runtime = decide(RuntimeConfig(threads=measure_steps.threads()))
    config = measure_steps.settings(True, batch)
    try:
        with alone():
            peak = bench.peak(runtime.device, runtime.precision, clock=measure_steps.clock(runtime))
            row = measure_steps.measure_published(config, runtime, peak, 8.0)
    except Exception as error:
        return journal.error(f"published batch {batch}", error)
    journal.add(
        "settings",
        peak_gflops=peak,
        settings=measure_steps.settings_of(config, runtime),
        machine=machine.describe("cuda"),
    )
    memory = row["peak_bytes"] / 2**30
    shown = f"{row['images_per_second']:.1f} images/s, {memory:.1f} GiB"
    journal.row(f"published batch {batch}", batch=batch, **row, shown=shown)


def large(journal: Journal, options: Options) -> None:
    """One process with the GPU to itself: up to 50 GB."""
    run_pytest(journal, "2^31", [str(TESTS), "-m", "slow", "-k", "beyond_two_billion", "-o", "addopts="])


def fill_caches(journal: Journal, options: Options) -> None:
    """Compile on all cores what is timed next; then delete what was tuned on a busy GPU, so that it is tuned again."""
    many = str(max(2, len(os.sched_getaffinity(0)) // 2))
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "benchmarks/kernels/test_kernels.py",
            "--compile-only",
            "-q",
            "-p",
            "no:cacheprovider",
            "-n",
            many,
        ],
        cwd=machine.ROOT,
        env={**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1"},
    )
    for config in Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).rglob("*.best_config"):
        config.unlink()
    journal.row("compile caches", status=process.returncode)


def sanitize(journal: Journal, options: Options, check: str) -> None:
    row = f"sanitizer {check}"
    # Without torch's allocator, whose blocks hide what lies beyond a tensor.
    sanitizer = [
        "compute-sanitizer",
        "--tool",
        check,
        "--error-exitcode",
        "9",
        "--target-processes",
        "application-only",
    ]
    expression = "parity and float32 or every_route or every_team or tiles or every_size"
    status = run_pytest(
        journal,
        row,
        [str(TESTS), f"--ignore={TESTS / 'test_aot.py'}", "-k", expression],
        before=sanitizer,
        PYTORCH_NO_CUDA_MEMORY_CACHING="1",
    )
    journal.row(
        row,
        status=status,
        **(
            {"error": f"{check} found something: see the log"}
            if status == 9
            else {"error": f"pytest ended with {status}"}
            if status
            else {}
        ),
    )


def start(journal: Journal, options: Options, engine: str) -> None:
    """Seconds from a new process to the end of its first step, with an empty and with a filled compiler cache."""
    from benchmarks.step import measure as measure_steps

    for row in measure_steps.measure_starts((engine,), "", options.gpu):
        journal.row(f"start {engine} {row['state']}", **row, shown=f"{row['seconds']:.0f} s")


if __name__ == "__main__":
    supervisor.main("4-rest", "benchmarks.gpu.rest", tasks)

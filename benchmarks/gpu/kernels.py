"""3-kernels.sh: parity of the kernels on this GPU, then their speed, then how fast DALI decodes there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import machine, schema
from benchmarks.gpu import supervisor
from benchmarks.gpu.journal import Journal, rows
from benchmarks.gpu.step import build_task, leave_if_lost
from benchmarks.gpu.supervisor import Options, Task, alone, seconds_left
from benchmarks.kernels import cases

TESTS = machine.ROOT / "tests" / "tmgan_kernels"
PARITY = 270  # seconds at most
DALI = 75  # seconds kept for it: 60 of decoding, the rest for drawing the photos
ROUNDS = 30


def tasks(options: Options) -> list[Task]:
    plan = plan_rows(options)
    measuring = [name_of(*entry) for entry in plan] + [host_name(*entry) for entry in plan_host(options)]
    return [
        build_task(options),
        Task("parity", parity, tuple(f"parity {file.name}" for file in parity_files(options)), PARITY),
        Task(
            "speed",
            lambda journal, options: speed(journal, options, plan, plan_host(options)),
            ("copy", *measuring),
            leave=0 if without_dali(options) else DALI,
        ),
        Task(
            "dali",
            lambda journal, options: loader(journal, options, "dali", 60),
            ("dali",),
            impossible=without_dali(options),
        ),
    ]


# ------------------------------------------------------------------------ parity
def parity_files(options: Options) -> list[Path]:
    if options.dry:
        return [TESTS / "test_mask_score.py"]
    left_out = ("test_aot.py", "test_import.py")  # they need no GPU
    return [file for file in sorted(TESTS.glob("test_*.py")) if file.name not in left_out]


def parity(journal: Journal, options: Options) -> None:
    some = ["-k", "parity and float32"] if options.dry else []
    run_pytest(journal, "parity", [*map(str, parity_files(options)), "-m", "not slow", *some], parallel=not options.dry)


def run_pytest(
    journal: Journal,
    title: str,
    arguments: Sequence[str],
    parallel: bool = False,
    before: Sequence[str] = (),
    **environment: str,
) -> int:
    """Run pytest in a separate process, with gpu/parity.py and without tests/conftest.py, which needs all of tmgan."""
    if parallel and importlib.util.find_spec("xdist") is not None:
        arguments = [*arguments, "-n", str(max(2, len(os.sched_getaffinity(0)) * 2 // 3))]
    command = [
        *before,
        sys.executable,
        "-m",
        "pytest",
        "--noconftest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "benchmarks.gpu.parity",
        *arguments,
    ]
    environment |= {"TMGAN_PARITY": title, "TMGAN_JOURNAL": str(journal.path)}
    return subprocess.run(command, cwd=machine.ROOT, env=os.environ | environment).returncode


# ------------------------------------------------------------------------- speed
def name_of(case: cases.Case, provider: str, which: str) -> str:
    return f"{case} {which} {provider}"


def host_name(case: cases.Case, provider: str, which: str) -> str:
    return f"host {case.operation} {which} {provider}"


def plan_rows(options: Options) -> list[tuple[cases.Case, str, str]]:
    """(case, provider, pass) of our kernels and their eager definitions; of nothing that torch.compile compiles."""
    if options.dry:
        toys = [cases.Case("instance_norm_glu", (2, 4, 8, 8), layout="nhwc"), cases.Case("masked_mae", (2, 3, 8, 8))]
        entries = [(toys[0], "triton"), (toys[0], "groups-half"), (toys[0], "eager"), (toys[1], "triton")]
    else:
        entries = cases.ours_first()
    return [(case, provider, which) for case, provider in entries for which in cases.OPERATIONS[case.operation].passes]


def plan_host(options: Options) -> list[tuple[cases.Case, str, str]]:
    return [] if options.dry else cases.host_plan(cases.ours_first(), gpu=True)


def speed(journal: Journal, options: Options, plan: Sequence[tuple], host: Sequence[tuple] = ()) -> None:
    """One row per call. A failure leaves the others; where it takes the GPU along, a new process measures the rest."""
    import torch
    import torch._functorch.config as functorch_config

    from benchmarks.kernels import collector, timer
    from benchmarks.kernels.prepare import prepare_case
    from tmgan_kernels import _native

    rows_by_name = rows(journal.lines())
    journal.add("settings", machine=machine.describe("cuda" if options.gpu else "cpu"))
    if options.gpu and "copy" not in rows_by_name:
        journal.row("copy", **collector.measure_copy(print), gpu_state=machine.gpu_state())
        rows_by_name = rows(journal.lines())
    elif "copy" not in rows_by_name:
        journal.row("copy", reason="needs a GPU")
    copy = {key: rows_by_name["copy"][key] for key in schema.COPY} if options.gpu else None
    timer_class = timer.GraphTimer if options.gpu else timer.ProcessorTimer

    def row(name: str, case: cases.Case, provider: str, measure: Callable[[], dict]) -> None:
        if name in rows_by_name:
            return
        if provider == "cuda" and _native.missing():
            return journal.row(name, reason=_native.missing())
        try:
            with alone():
                result = measure()
        except Exception as error:
            journal.error(name, error)
            prepare_case.cache_clear()
            leave_if_lost(options)
        else:
            share = f", {result['copy_fraction']:.0%} of a copy" if copy and "copy_fraction" in result else ""
            journal.row(name, **result, shown=f"{result['microseconds']:.1f} us{share}")

    def time_case(case: cases.Case, provider: str, which: str) -> dict:
        work = prepare_case(case, provider, None)
        clock = timer_class(lambda: work.call(which), len(work.sets))
        for _ in range(3 if options.dry else ROUNDS):
            clock.round()
        return {
            "key": {**case.key(), "pass": which, "provider": provider},
            **collector.measurement(clock.timing(), cases.bytes_moved(case, which), copy),
        }

    def time_host(case: cases.Case, provider: str, which: str) -> dict:
        with timer.on_stream():
            work = prepare_case(case, provider, 1)
            call = work.call(which)
            clock = timer.HostTimer(lambda: call(0))
            for _ in range(ROUNDS):
                clock.round()
        return {
            "key": {"operation": case.operation, "pass": which, "provider": provider},
            **collector.times(clock.timing()),
        }

    with functorch_config.patch(donated_buffer=False):  # backward passes alone are timed: keep what is saved
        for case, provider, which in plan:
            row(name_of(case, provider, which), case, provider, partial(time_case, case, provider, which))
        for case, provider, which in host:
            row(host_name(case, provider, which), case, provider, partial(time_host, case, provider, which))
    if options.gpu:
        journal.add("gpu state", after=machine.gpu_state())
        torch.cuda.synchronize()


# -------------------------------------------------------------------------- DALI
def without_dali(options: Options) -> str:
    """Why DALI cannot decode here; empty where it can."""
    if not options.gpu:
        return "needs a GPU"
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.dali") is None:
        return "nvidia-dali-cuda130 is not installed here: its wheel was not brought along"
    return ""


def loader(journal: Journal, options: Options, kind: str, seconds: float) -> None:
    """The row of a loader, measured for at most `seconds`; with what a document says of its data."""
    from benchmarks.loaders import test_loaders

    with tempfile.TemporaryDirectory() as folder:
        photos = test_loaders.drawn_photos(Path(folder))
        row = test_loaders.measure(kind, photos, min(seconds, seconds_left() - 3))
        more, data = test_loaders.about(photos)
        journal.add("settings", data=data, machine=machine.describe("cuda" if options.gpu else "cpu") | more)
    journal.row(
        kind,
        **row,
        shown=f"{row['images_per_second']:,.0f} images/s, {row['images_per_core_second']:,.0f} per second of a core",
    )


if __name__ == "__main__":
    supervisor.main("3-kernels", "benchmarks.gpu.kernels", tasks)

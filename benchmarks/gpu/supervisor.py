"""Runs the tasks of a script: one process each, within one time limit, so that no failure loses another task's rows.

A module of a script has `tasks(options) -> list[Task]` and a function for each task; it ends with
`supervisor.main(script, module, tasks)`. Started by a script it supervises; started with --task it is one worker.
Imports no torch.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import fcntl
import importlib.metadata
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.gpu.journal import STOPPED, Journal, rows, table

AGAIN = 75  # a worker's status: its CUDA context is lost, restart it for its other rows
LAST_CALL = 40  # seconds before the end at which tasks that wait for the end are called
CLOSING = 6  # seconds for the last lines and the table


@dataclass(frozen=True)
class Options:
    """Options of a script.

    Attributes:
        out: folder for the rows and the log.
        seconds: limit of the whole script.
        dry: on a CPU, at toy sizes.
        gpu: whether there is one to use.
    """

    out: Path
    seconds: float
    dry: bool
    gpu: bool


@dataclass(frozen=True)
class Task:
    """Something to run in a separate process.

    Attributes:
        name: of the task, for the command line.
        work: called with the journal and the options; must write the planned `rows`.
        rows: names of the rows.
        seconds: limit of the task, where others wait for it.
        leave: seconds of the script that it leaves to the tasks after it.
        gigabytes: of the GPU's memory that it takes.
        background: runs beside all others, which do not wait for it.
        waits: it measures, calls `until_last`, and measures again; its place is free meanwhile.
        impossible: why it cannot run here at all; empty where it can.
    """

    name: str
    work: Callable[[Journal, Options], None]
    rows: tuple[str, ...]
    seconds: float = 1e9
    leave: float = 0
    gigabytes: float = 0
    background: bool = False
    waits: bool = False
    impossible: str = ""


# ------------------------------------------------------------------- in a worker
@contextlib.contextmanager
def alone() -> Iterator[None]:
    """GPU and cores for this process alone: all other workers of the run are stopped meanwhile.

    A lock alone would not do: what still compiles tries its kernels on the GPU, and takes the first steps there.
    """
    run = Path(os.environ["TMGAN_RUN"])
    with open(run / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        others = [int(path.name) for path in (run / "workers").iterdir() if path.name != str(os.getpgrp())]
        _tell(others, signal.SIGSTOP)
        try:
            yield
        finally:
            _tell(others, signal.SIGCONT)


def until_last() -> None:
    """Wait until the others are done, or the end is near."""
    run = Path(os.environ["TMGAN_RUN"])
    (run / f"waiting-{os.getpgrp()}").touch()
    while not (run / "last").exists():
        time.sleep(0.2)


def seconds_left() -> float:
    """Seconds until the script ends."""
    return float(os.environ["TMGAN_END"]) - time.time()


def _tell(groups: list[int], what: signal.Signals) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, what)


def _work(task: Task, journal: Journal, options: Options) -> int:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # Linux: to end with the supervisor, however that ends
    try:
        task.work(journal, options)
    except Exception as error:
        import traceback

        traceback.print_exc()
        journal.add(
            "failed", task=task.name, error=f"{type(error).__name__}: {error}"[:500], traceback=traceback.format_exc()
        )
        return 1
    return 0


# ------------------------------------------------------------- in the supervisor
def stamp(options: Options) -> dict:
    """What every row carries."""

    def version(name: str) -> str:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
        return "not installed"

    return {
        "run": datetime.datetime.now().isoformat(timespec="milliseconds"),
        "dry": options.dry,
        "gpu": machine.gpu_name() if options.gpu else "not used",
        "torch": version("torch"),
        "triton": version("triton"),
        "commit": machine.commit(),
        "sources": machine.sources(),
    }


class Supervisor:
    """Starts tasks in their order, `width` at a time and within the GPU's memory, and writes why a row is missing."""

    def __init__(self, name: str, module: str, tasks: list[Task], options: Options, width: int):
        self.module, self.options, self.width = module, options, width if options.gpu or options.dry else 1
        self.end = time.time() + options.seconds - CLOSING
        self.stamp = stamp(options)
        self.journal = Journal(options.out / f"{name}.jsonl", self.stamp)
        self.log = options.out / f"{name}.log"
        self.run = Path(tempfile.mkdtemp(prefix="tmgan-"))
        (self.run / "workers").mkdir()
        self.pending, self.running = list(tasks), {}
        self.memory = machine.gpu_gigabytes() if options.gpu else 1e9
        self.journal.add("begin", script=name, seconds=options.seconds)
        self.journal.add("planned", rows=[row for task in tasks for row in task.rows])

    def supervise(self) -> None:
        try:
            while (self.pending or self.running) and time.time() < self.end:
                self._reap()
                self._start()
                self._call()
                time.sleep(0.1)
            reason = f"the {self.options.seconds:.0f} seconds of the script were over"
        except (KeyboardInterrupt, SystemExit):
            reason = STOPPED
            raise
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _tell([process.pid for _, process, _ in self.running.values()], signal.SIGKILL)
            for task, process, _ in self.running.values():
                self._kill(process)
                self._absent(task, reason)
            for task in self.pending:
                self._absent(task, reason)
            self.journal.add("end", seconds=round(self.spent(), 1))
            shutil.rmtree(self.run, ignore_errors=True)

    def _start(self) -> None:
        while self.pending:
            task = self.pending[0]
            active = [
                other
                for other, process, _ in self.running.values()
                if not other.background and not (self.run / f"waiting-{process.pid}").exists()
            ]
            full = len(active) >= self.width or (active and sum(t.gigabytes for t in (*active, task)) > self.memory)
            if full and not task.background:
                return
            self.pending.pop(0)
            if task.impossible:
                for row in task.rows:
                    self.journal.row(row, reason=task.impossible)
                continue
            environment = {
                **os.environ,
                "TMGAN_RUN": str(self.run),
                "TMGAN_END": str(self.end),
                "TMGAN_STAMP": json.dumps(self.stamp),
            }
            command = [
                sys.executable,
                "-m",
                self.module,
                str(self.options.out),
                str(self.options.seconds),
                "--task",
                task.name,
                *(["--dry"] if self.options.dry else []),
            ]
            with open(self.log, "ab") as log:
                process = subprocess.Popen(
                    command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, process_group=0
                )
            (self.run / "workers" / str(process.pid)).touch()
            # Of a task's limit only others have a use: the last one, or one that is run by itself, takes what is left.
            limit = min(task.seconds if self.pending else 1e9, self.end - task.leave - time.time())
            self.running[process.pid] = task, process, time.time() + limit
            print(f"[{self.spent():3.0f} s] {task.name}", flush=True)

    def spent(self) -> float:
        return self.options.seconds - CLOSING - (self.end - time.time())

    def _reap(self) -> None:
        for pid, (task, process, limit) in list(self.running.items()):
            status = process.poll()
            if status is None and time.time() <= limit:
                continue
            del self.running[pid]
            (self.run / "workers" / str(pid)).unlink()
            self._kill(process)  # what it started and left
            _tell([other.pid for _, other, _ in self.running.values()], signal.SIGCONT)  # if it died in alone()
            if status == AGAIN:
                self.pending.insert(0, task)
            elif status is None:
                self._absent(task, f"{task.name} took longer than the time it was given")
            else:
                self._absent(task, self._ending(task, status))

    def _ending(self, task: Task, status: int) -> str:
        errors = [
            line["error"] for line in self.journal.lines() if line["kind"] == "failed" and line["task"] == task.name
        ]
        how = errors[-1] if errors else f"signal {-status}" if status < 0 else f"status {status}"
        return (
            f"the process of {task.name} ended early ({how}); see {self.log.name}"
            if status
            else f"{task.name} ended without it; see {self.log.name}"
        )

    def _call(self) -> None:
        """Tasks that wait for the end: now, when nothing else runs or little time is left."""
        busy = self.pending or any(
            not task.background and not (self.run / f"waiting-{pid}").exists()
            for pid, (task, _, _) in self.running.items()
        )
        if not busy or time.time() > self.end - min(LAST_CALL, self.options.seconds / 4):
            (self.run / "last").touch()

    def _absent(self, task: Task, reason: str) -> None:
        rows_by_name = rows(self.journal.lines())
        if absent := [name for name in task.rows if name not in rows_by_name]:
            self.journal.add("missing", rows=absent, reason=reason)

    @staticmethod
    def _kill(process: subprocess.Popen) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)  # giving much memory of a GPU back takes a while


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"SECONDS comes before the tasks: {text!r} is no number") from None
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"SECONDS must be above 0 and finite, not {text}")
    return seconds


def main(
    name: str, module: str, tasks: Callable[[Options], list[Task]], width: int = 1, needs_gpu: bool = True
) -> None:
    """What the module of a script ends with.

    Args:
        name: of the script.
        module: its name, for the workers.
        tasks: makes all tasks.
        width: how many run at a time.
        needs_gpu: refuse to run without one, but for --dry.
    """
    parser = argparse.ArgumentParser(prog=f"{name}.sh")
    parser.add_argument("out", type=Path, help="folder for the rows and the log")
    parser.add_argument("seconds", type=_seconds, nargs="?", default=540.0, help="limit of the whole script")
    parser.add_argument("only", nargs="*", help="tasks to run; all by default")
    parser.add_argument("--dry", action="store_true", help="on a CPU, at toy sizes: shows that the script works")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    gpu = not arguments.dry and machine.gpu_name() != "unknown"
    options = Options(arguments.out.resolve(), arguments.seconds, arguments.dry, gpu)
    if needs_gpu and not arguments.dry and not options.gpu:
        parser.error("nvidia-smi finds no GPU; --dry shows on a CPU that the script works")
    every = {task.name: task for task in tasks(options)}
    if arguments.task:
        journal = Journal(options.out / f"{name}.jsonl", json.loads(os.environ["TMGAN_STAMP"]))
        sys.exit(_work(every[arguments.task], journal, options))
    if unknown := set(arguments.only) - every.keys():
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    options.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    selection = [task for key, task in every.items() if not arguments.only or key in arguments.only]
    supervisor = Supervisor(name, module, selection, options, width)
    try:
        supervisor.supervise()
    finally:
        print(*table(supervisor.journal.lines()), sep="\n", flush=True)
    lines = supervisor.journal.lines()
    failure = any("error" in row for row in rows(lines).values()) or any(line["kind"] == "failed" for line in lines)
    print(f"after {supervisor.spent():.0f} s; the rows are in {supervisor.journal.path}")
    sys.exit(1 if failure else 0)

"""Work in child processes, several at once: a kernel that kills its process, or hangs, costs no other its result."""

import multiprocessing
import multiprocessing.connection
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch


@dataclass(frozen=True)
class Ended:
    """A job's process ended; problem says why it did not finish its work, None where it did."""

    problem: str | None


def workers() -> int:
    """Compiling takes a core each; beyond a dozen, their contexts' memory and the GPU's turns cost more."""
    return min(12, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _work(function: Callable, arguments: tuple, pipe: Connection) -> None:
    torch.set_num_threads(1)
    for row in function(*arguments):
        pipe.send(row)
    pipe.send(Ended(None))


def run(function: Callable, jobs: list[tuple], at_once: int, limit: float) -> Iterator[tuple[tuple, object]]:
    """(job, row) of every row that function(*job) yields, as it comes, then (job, Ended) once for each job.

    function must be importable by name, jobs and rows be picklable. limit: seconds that a job may take.
    """
    # A server that has imported torch, and has no CUDA context, forks them: seconds less for each. Not this package:
    # the server does not know what was put on sys.path here, and might take another copy.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "triton"])
    waiting = deque(jobs)
    running: dict[Connection, tuple[tuple, BaseProcess, float]] = {}  # job, its process, when its time is up
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.popleft()
                receiving, sending = context.Pipe(duplex=False)
                process: BaseProcess = context.Process(target=_work, args=(function, job, sending), daemon=True)
                process.start()
                sending.close()
                running[receiving] = job, process, time.monotonic() + limit
            patience = min(end for _, _, end in running.values()) - time.monotonic()
            for pipe in multiprocessing.connection.wait(list(running), max(0.0, patience)):
                assert isinstance(pipe, Connection)
                job, process, _ = running[pipe]
                try:
                    row: object = pipe.recv()
                except EOFError:
                    process.join()
                    row = Ended(f"its process ended with status {process.exitcode}")
                yield job, row
                if isinstance(row, Ended):
                    process.join()
                    del running[pipe]
            for pipe, (job, process, end) in list(running.items()):
                if time.monotonic() >= end and not pipe.poll():
                    process.kill()
                    process.join()
                    del running[pipe]
                    yield job, Ended(f"it did not end within {limit:g} s")
    finally:
        for _, process, _ in running.values():
            process.kill()

"""Run the cutting of many images in as many processes as pay off."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from tmgan.data.tiles import Cut, Cutter, Job, start_worker

CHUNK = 16  # images per task
IMAGES_PER_WORKER = 100  # below this, starting another process costs more than it saves

Work = Callable[[Cutter, list[Job]], list[Cut]]  # tiles.cut or tiles.compare


def run_jobs(work: Work, cutter: Cutter, jobs: list[Job], workers: int | None) -> Iterator[Cut]:
    """Results of `work` on jobs in any order, from as many processes as pay off; a single one is this process.

    Raises:
        ValueError: a process has ended, which nothing of ours does.
    """
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(cores, -(-len(jobs) // IMAGES_PER_WORKER))
    chunks = (jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK))
    if workers <= 1:
        for chunk in chunks:
            yield from work(cutter, chunk)
        return
    try:
        yield from _in_pool(work, cutter, chunks, workers)
    except BrokenProcessPool as error:
        raise ValueError(
            "a worker process ended unexpectedly: out of memory (use fewer --workers), or a script without the "
            '`if __name__ == "__main__":` guard. Run again, it continues'
        ) from error


def _in_pool(work: Work, cutter: Cutter, chunks: Iterator[list[Job]], workers: int) -> Iterator[Cut]:
    context = multiprocessing.get_context("spawn")  # fork would copy torch's threads and locks
    with ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker) as pool:
        futures = {pool.submit(work, cutter, chunk) for chunk in itertools.islice(chunks, 2 * workers)}
        while futures:
            ready, futures = wait(futures, return_when=FIRST_COMPLETED)
            futures |= {pool.submit(work, cutter, chunk) for chunk in itertools.islice(chunks, len(ready))}
            for future in ready:
                yield from future.result()

"""Items of a source as jobs, and many jobs in as many processes as pay off."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from tmgan.data.captions import tokenize
from tmgan.data.sources.source import Item
from tmgan.data.tiles import Cut, Cutter, Job, start_worker

CHUNK = 16  # images per task
IMAGES_PER_WORKER = 100  # below this, starting another process costs more than it saves

MAX_WORDS = 512  # per caption: the table of tokens is as wide as the longest one

Work = Callable[[Cutter, list[Job]], list[Cut]]  # tiles.cut or tiles.compare


def job_of(row: int, item: Item) -> Job:
    """What a worker needs to know about an item."""
    return Job(row, item.image, item.box, item.mask, item.parts)


def problem_of(item: Item) -> str:
    """What is wrong with an item before its picture is opened; "" if nothing is."""
    longest = max((len(tokenize(caption)) for caption in item.captions), default=0)
    too_long = f"a caption of {longest} words (at most {MAX_WORDS})" if longest > MAX_WORDS else ""
    return item.problem or too_long


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

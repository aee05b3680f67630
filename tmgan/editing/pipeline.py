"""Stages that many things go through one after the other: in order, few at a time, each failing on its own.

A stage is a generator over the one before it, so nothing happens before the last one is asked, and what is asked for
is all that is ever held.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple, TypeVar

from tmgan.common.errors import REFUSED, exit_status

T = TypeVar("T")
R = TypeVar("R")
THREADS = min(8, len(os.sched_getaffinity(0)))  # Pillow decodes and encodes without Python's lock


class Failed(NamedTuple):
    """Stands in the place of what a stage could not make. It passes through the later stages."""

    error: Exception


@contextlib.contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """A few threads for `in_threads`. In the end, also after an error, what waits for one is given up."""
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="tmgan-edit")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def in_threads(stage: Callable[[T], R], items: Iterable[T | Failed], pool: ThreadPoolExecutor) -> Iterator[R | Failed]:
    """`stage` of each item, in order, worked on in the threads of `pool` up to THREADS items ahead."""
    waiting: deque[Future[R | Failed]] = deque()
    for item in items:
        waiting.append(pool.submit(attempt, stage, item))
        if len(waiting) > THREADS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def in_batches(stage: Callable[[list[T]], list[R]], items: Iterable[T | Failed], size: int) -> Iterator[R | Failed]:
    """`stage` of up to `size` items at a time, in the caller's thread. What it raises ends all."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        sound = [item for item in batch if not isinstance(item, Failed)]
        made = iter(stage(sound) if sound else [])
        for item in batch:
            yield item if isinstance(item, Failed) else next(made)


def one_by_one(stage: Callable[[T], R], items: Iterable[T | Failed]) -> Iterator[R | Failed]:
    """`stage` of each item, in the caller's thread."""
    return (attempt(stage, item) for item in items)


def attempt(stage: Callable[[T], R], item: T | Failed) -> R | Failed:
    """What the stage makes of an item. What the user can mend becomes Failed; a fault of tmgan is raised."""
    if isinstance(item, Failed):
        return item
    try:
        return stage(item)
    except Exception as error:
        if exit_status(error) != REFUSED:
            raise
        return Failed(error)

"""The portable loader: processes decode the original files with Pillow, steps ahead of the training.

Its images are those of the resident loader to the bit. Where pillow-simd has taken Pillow's place it is used instead,
and the images differ by what its resize does (docs/data.md).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker

import numpy as np
import torch
from torch import Tensor

from tmgan.data.originals import Originals
from tmgan.training.loaders.batch import Batch, Columns
from tmgan.training.loaders.crop_worker import Crop, cut_crops, start
from tmgan.training.loaders.crops import finish_on_device, host_keep_masks
from tmgan.training.plan import Plan, Planner

AHEAD = 4  # steps in flight: a worker with a large picture delays nobody
CHUNK = 8  # rows per task


class PillowLoader:
    """A Loader on Pillow.

    Args:
        workers: processes; spawned, so a script that makes this needs the `if __name__ == "__main__":` guard.

    Raises:
        ValueError: by the step that needs it, a picture is missing or damaged by now.
    """

    pixels = "tiles"

    def __init__(
        self, planner: Planner, columns: Columns, originals: Originals, masks: Tensor | None, size: int, workers: int
    ):
        self.planner, self.columns, self.originals, self.masks = planner, columns, originals, masks
        context = multiprocessing.get_context("spawn")  # fork would copy torch's threads and locks
        shape = (AHEAD, planner.batch, size, size, 3)
        memory = context.RawArray("B", int(np.prod(shape)))
        self._slots = torch.from_numpy(np.frombuffer(memory, np.uint8).reshape(shape))
        self._pool = ProcessPoolExecutor(
            workers, mp_context=context, initializer=start, initargs=(memory, shape, context.Barrier(workers))
        )
        # Each task starts a worker unless one is idle, and none is before all have met at the barrier: so all start
        # here. They inherit that Ctrl-C, which a terminal sends to them too, is blocked: one that was still importing
        # would print a traceback. SIGTERM, which a scheduler sends to all, they unblock when they are ready for it.
        # Python's resource tracker would unblock both, so it starts before.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            for _ in range(workers):
                self._pool.submit(os.getpid)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._ahead: deque[tuple[int, Plan, int, list[Future]]] = deque()  # step, plan, slot, tasks

    def __call__(self, step: int) -> Batch:
        try:
            return self._batch(step)
        except BrokenProcessPool as error:
            raise ValueError(
                "A worker process of the pillow loader ended from outside: out of memory (use fewer "
                '--runtime.threads), or a script without the `if __name__ == "__main__":` guard.'
            ) from error

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown(cancel_futures=True)

    def _batch(self, step: int) -> Batch:
        if not self._ahead or self._ahead[0][0] != step:
            self._start_at(step)
        _, plan, slot, tasks = self._ahead[0]
        for problem in filter(None, [task.result() for task in tasks]):
            raise ValueError(f"{problem}. The pillow loader needs it for step {step}.")
        size = self._slots.shape[2]
        batch = self.columns.batch(
            plan,
            finish_on_device(self._slots[slot], plan.flip, self.columns.device),
            host_keep_masks(self.masks, plan, size, self.columns.device),
        )
        self._ahead.popleft()
        self._submit(step + AHEAD, slot)
        return batch

    def _start_at(self, step: int) -> None:
        """Cancel what is in flight, and start at another step than the next one."""
        in_flight = [task for *_, tasks in self._ahead for task in tasks if not task.cancel()]
        wait(in_flight)  # they write into the slots
        self._ahead.clear()
        for slot in range(AHEAD):
            self._submit(step + slot, slot)

    def _submit(self, step: int, slot: int) -> None:
        plan, of = self.planner(step), self.originals
        rows = plan.index.numpy()
        corners = of.corners[rows] + np.stack([plan.left.numpy(), plan.top.numpy()], 1)
        crops = [
            Crop(of.paths[row], tuple(region), tuple(scaled), tuple(corner))
            for row, region, scaled, corner in zip(
                rows, of.regions[rows].tolist(), of.scaled[rows].tolist(), corners.tolist(), strict=True
            )
        ]
        tasks = [
            self._pool.submit(cut_crops, slot, at, crops[at : at + CHUNK], of.exif)
            for at in range(0, len(crops), CHUNK)
        ]
        self._ahead.append((step, plan, slot, tasks))

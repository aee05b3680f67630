"""Saves in the background: the training goes on while a checkpoint and what users need are written.

snapshot.py copies the state; a thread writes the copy, and only then does run.json say so. One save at a time: the next
one waits for it, and so does the end of the training. An error of a save is one of the training, at its next boundary.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from tmgan.training.divergence import require_finite
from tmgan.training.run_folder import RunFolder
from tmgan.training.snapshot import Snapshot
from tmgan.training.task import Task


class Saver:
    """`with Saver(task, run) as saver:` around the training; leaving it waits for the save.

    Raises:
        OSError: a file of the last save could not be written; from any method, once.
        FloatingPointError: the state was not finite, and is not saved; likewise.
    """

    def __init__(self, task: Task, run: RunFolder):
        self._task, self._run = task, run
        self._snapshot = Snapshot(task.runtime.device)
        self._thread = ThreadPoolExecutor(1, "save")
        self._save: Future[None] | None = None

    def save(self, images: int, state: dict, score: float | None) -> None:
        """Begin to save.

        Args:
            images: seen so far.
            state: of the checkpoint; its "task" is what the task returned.
            score: as for `Checkpoints.save`.
        """
        self.wait()
        host = self._snapshot.begin(state, self._task.train_step.buffers())
        self._save = self._thread.submit(self._write, images, host, score)

    def _write(self, images: int, state: dict, score: float | None) -> None:
        self._snapshot.copy()
        require_finite(state, images, self._task, self._run)
        self._run.checkpoints.save(images, state, score)
        self._task.export(self._run.path, images, state["task"])
        self._run.status("running", images)

    def check(self) -> None:
        """Raise the error of a save that has failed. Never waits."""
        if self._save is not None and self._save.done():
            self.wait()

    def wait(self) -> None:
        """Return when all is on the disk."""
        save, self._save = self._save, None
        if save is not None:
            save.result()

    def __enter__(self) -> Saver:
        self._task.train_step.before_update = self._snapshot.wait
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"The last save had failed too: {failure}")
        finally:
            self._thread.shutdown()
            self._task.train_step.before_update = lambda: None  # which gives the snapshot's memory back

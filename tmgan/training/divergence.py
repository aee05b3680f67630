"""What is said, and left behind, when the numbers of a training go bad."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from tmgan.common.commands import command
from tmgan.training.checkpoint import images_of
from tmgan.training.recorder import FILE, STREAK, Recorder, write_flight
from tmgan.training.run_folder import RunFolder
from tmgan.training.task import Task

_LAST = 3  # bad steps in a row that must not be a run's last ones


def require_good_steps(recorder: Recorder, task: Task, run: RunFolder, complete: bool) -> None:
    """FloatingPointError when the last steps were bad: too many to be an accident, or to end a run with."""
    streak = recorder.streak()
    if streak >= (_LAST if complete else STREAK) or (complete and streak == recorder.steps > 0):
        first = recorder.first_bad()
        assert first is not None, "a streak is of steps"
        raise _diverged("gradients are not finite. Those steps were skipped", first, task, run)


def measure(task: Task, run: RunFolder, images: int, recorder: Recorder) -> dict[str, float]:
    """The task's metrics; FloatingPointError when its networks give nothing that can be measured."""
    try:
        return task.measure(images)
    except FloatingPointError as error:
        first = recorder.first_bad()
        first = images // task.batch - 1 if first is None else first
        raise _diverged("what is measured is not finite", first, task, run) from error


def require_finite(state: Any, images: int, task: Task, run: RunFolder) -> None:
    """FloatingPointError if a tensor of nested plain types holds a number that is not finite: a step may overflow."""
    if isinstance(state, Tensor):
        if state.is_floating_point() and not torch.isfinite(state).all():
            raise _diverged("weights are not finite, and were not saved", images // task.batch - 1, task, run)
    elif isinstance(state, (dict, list, tuple)):
        for value in state.values() if isinstance(state, dict) else state:
            require_finite(value, images, task, run)


def _diverged(what: str, step: int, task: Task, run: RunFolder) -> FloatingPointError:
    """What to say when `what` is so from a step on."""
    images = step * task.batch
    saved = [path for path in run.checkpoints.paths() if images_of(path) <= images]
    where = f"The last good checkpoint is {saved[0]}." if saved else "There is no checkpoint yet."
    if saved and images_of(saved[0]) == images:  # its very next step is bad, so its weights may be the cause
        before = f"the one before it, {saved[1].name}," if len(saved) > 1 else "the run's beginning"
        where = f"The checkpoint before it is {saved[0]}. If it goes bad there again, move that away: {before} is next."
    other = "" if task.runtime.precision == "fp32" else ", or try another run with --runtime.precision fp32"
    return FloatingPointError(
        f"Training diverged: from image {images:,} on, {what}. {where}\n"
        f"What went bad first:\n  {command('replay', run.path, '--step', step)}\n"
        f"Go on with lower learning rates (they may be changed in a run){other}."
    )


def leave_flight(error: Exception, recorder: Recorder, task: Task, run: RunFolder) -> None:
    """Write the last steps' numbers into the run's folder, if they can still be had."""
    path = run.path / FILE
    about = {"reason": f"{type(error).__name__}: {error}", "seed": task.seed, **task.runtime.numerics()}
    with suppress(Exception):  # a GPU that failed gives nothing back, a full disk takes nothing
        if write_flight(path, recorder, task.batch, about):
            run.log(f"The numbers of the last steps: {path}")

"""The training loop, and nothing but the loop.

It trains any task: the encoders (encoder_task.py) or the editor (editor_task.py).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Protocol

from torch import Tensor

from tmgan.common.commands import command
from tmgan.config.runtime import Runtime
from tmgan.config.settings import OutputConfig
from tmgan.training.loaders.batch import Loader
from tmgan.training.recorder import FILE, STREAK, Recorder, Tick, write_flight
from tmgan.training.run_folder import RunFolder, StopRequest
from tmgan.training.signs import SIGNS, CollapseWatch
from tmgan.training.stats import JsonLines, Speed, TensorBoard

_LAST = 3  # bad steps in a row that must not be a run's last ones


class Task(Protocol):
    """What the loop trains. A step is a pure function of the state and the step's number."""

    seed: int
    batch: int
    runtime: Runtime
    loader: Loader

    def step(self, step: int) -> dict[str, Tensor]:
        """Train one step; return its numbers: scalars, still on the device, the same names in every step.

        A step whose gradients are not finite changes nothing, and one of its numbers tells.
        """

    def state_dict(self) -> dict:
        """Everything that training changes, as plain types."""

    def load_state_dict(self, state: dict) -> None:
        """Restore what state_dict returned."""

    def notes(self) -> list[str]:
        """What to say about the state that was restored, as sentences."""

    def identity(self) -> dict[str, str]:
        """What a resumed run must find unchanged: name of a thing -> its hash."""

    def draw(self, path: Path) -> None:
        """Write a picture of the progress."""

    def measure(self) -> dict[str, float]:
        """Cheap metrics for metrics.jsonl; a "score", higher is better, picks the best checkpoint. May be empty."""

    def export(self, folder: Path, images: int) -> None:
        """Write what users of the trained model need."""


def train(task: Task, run: RunFolder, images: int, output: OutputConfig, stop: StopRequest) -> str:
    """Train `task` until `images` images have been seen.

    Returns:
        "done", or "stopped" when a signal came.

    Raises:
        FloatingPointError: the last steps' numbers were not finite, one after another.
    """
    recorder = Recorder()
    try:
        return _train(task, run, images, output, stop, recorder)
    except Exception as error:
        _write_flight(error, recorder, task, run)
        raise


def _train(task: Task, run: RunFolder, images: int, output: OutputConfig, stop: StopRequest, recorder: Recorder) -> str:
    # Resume.
    count, step = _resume(task, run)
    start = count
    if count >= images:
        task.export(run.path, count)  # a crash may have come between the last checkpoint and its export
        run.log(f"{run.path} is complete: {count:,} images.")
        run.status("done", count)
        return "done"
    if count:
        run.log(f"Resuming {run.path} at {count:,} of {images:,} images.")
    watch, speed = CollapseWatch(), Speed(count)
    stats_file, metrics_file = JsonLines(run.path / "stats.jsonl", count), JsonLines(run.path / "metrics.jsonl", count)
    board = TensorBoard(run.path / "tensorboard", count, (run.path / "config.yaml").read_text("utf-8"))
    run.status("running", count)

    while True:
        complete = count >= images
        # Read once: a signal that comes while this boundary is being saved or measured takes effect at the next one, so
        # that no run says that it stopped where it did not save.
        signal = stop.signal

        # At the first step boundary past a multiple of the interval, but not right after resuming.
        report, draw, measure = (
            count > start and (complete or count % interval < task.batch)
            for interval in (output.tick_images, output.sample_images, output.checkpoint_images)
        )
        save = measure or (signal is not None and count > start)

        # Report. Reading the numbers waits for the device, so the clock is read afterwards.
        if report:
            tick = recorder.read()
            rate, left = speed.tick(count, images)
            run.log(_status_line(count, images, rate, left, tick))
            bad = {"bad_steps": tick.bad} if tick.bad else {}
            stats_file.write({"images": count, **tick.means, **bad, "images_per_second": rate})
            board.scalars("loss", {name: value for name, value in tick.means.items() if name not in SIGNS}, count)
            board.scalars("sign", {name: value for name, value in tick.means.items() if name in SIGNS}, count)
            board.scalars("speed", {"images_per_second": rate}, count)
            for line in watch.look(tick.means):
                run.log(line)
        if report or save:
            _require_good_steps(recorder, task, run, complete)

        # Draw, measure, save.
        if draw:
            picture = run.samples / f"images-{count:012d}.png"
            task.draw(picture)
            board.picture(picture, count)
            speed.resume(count)
        if save:
            metrics = _measure(task, run, step - 1) if measure else {}
            if metrics:
                metrics_file.write({"images": count, **metrics})
                board.scalars("metric", metrics, count)
                run.log("  " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
            state = {"step": step, "task": task.state_dict(), "identity": task.identity(), "numerics": _numerics(task)}
            run.checkpoints.save(count, state, metrics.get("score"))
            task.export(run.path, count)
            run.status("running", count)
            speed.resume(count)

        if complete:
            run.status("done", count)
            return "done"
        if signal is not None:
            run.log(f"Stopped by {signal} at {count:,} images; the same command resumes here.")
            run.status("stopped", count, reason=signal)
            return "stopped"

        # Train.
        recorder.add(step, task.step(step))
        step += 1
        count += task.batch


def _resume(task: Task, run: RunFolder) -> tuple[int, int]:
    """Load the newest checkpoint, if there is one, into the task.

    Returns:
        Images seen and steps done.

    Raises:
        ValueError: the data or the encoders are no longer those that the run began with.
    """
    state = run.checkpoints.load_latest()
    if state is None:
        return 0, 0
    names = [name for name, value in task.identity().items() if state["identity"].get(name) != value]
    if names:
        raise ValueError(
            f"{run.path} was trained with another {' and another '.join(names)}. Restore the previous one "
            "to resume, or choose another --run."
        )
    now, before = _numerics(task), {"pixels": "tiles", **state["numerics"]}  # runs of earlier versions had no others
    if now != before:
        differs = ", ".join(
            f"{name} {before.get(name)} then, {now[name]} now" for name in now if now[name] != before.get(name)
        )
        run.log(f"NOTE: {differs}: the run goes on, but not to the same bits.")
    task.load_state_dict(state["task"])
    for note in task.notes():
        run.log(f"NOTE: {note}")
    return state["images"], state["step"]


def _numerics(task: Task) -> dict[str, str | int]:
    """What the last bits of a step depend on."""
    return {**task.runtime.numerics(), "pixels": task.loader.pixels}


def _require_good_steps(recorder: Recorder, task: Task, run: RunFolder, complete: bool) -> None:
    """FloatingPointError when the last steps were bad: too many to be an accident, or to end a run with."""
    streak = recorder.streak()
    if streak >= (_LAST if complete else STREAK):
        step = int(recorder.rows()[-1]["step"]) - streak + 1
        what = "gradients or losses are not finite. Those steps were skipped, so the weights are from before"
        raise _diverged(what, step, task, run)


def _measure(task: Task, run: RunFolder, step: int) -> dict[str, float]:
    """The task's metrics; FloatingPointError when its networks give nothing that can be measured."""
    try:
        return task.measure()
    except FloatingPointError as error:
        raise _diverged("what is measured is not finite", step, task, run) from error


def _diverged(what: str, step: int, task: Task, run: RunFolder) -> FloatingPointError:
    """What to say when `what` is so from a step on."""
    images = step * task.batch
    # Bad steps change nothing, so one that was saved among them is good too.
    saved = run.checkpoints.paths()
    where = f"The last good checkpoint is {saved[0]}" if saved else "There is no checkpoint yet"
    return FloatingPointError(
        f"Training diverged: from image {images:,} on, {what}. {where}.\n"
        f"What went bad first:\n  {command('replay', run.path, '--step', step)}\n"
        "Go on with lower learning rates (they may be changed in a run), or try another run with "
        "--runtime.precision fp32."
    )


def _write_flight(error: Exception, recorder: Recorder, task: Task, run: RunFolder) -> None:
    """Leave the last steps' numbers in the run's folder, if they can still be had."""
    path = run.path / FILE
    about = {"reason": f"{type(error).__name__}: {error}", "seed": task.seed, **_numerics(task)}
    with suppress(Exception):  # a GPU that failed gives nothing back, a full disk takes nothing
        if write_flight(path, recorder, task.batch, about):
            run.log(f"The numbers of the last steps: {path}")


def _status_line(count: int, images: int, rate: float, left: str, tick: Tick) -> str:
    parts = "  ".join(f"{name} {value:.3f}" for name, value in tick.means.items() if name not in SIGNS)
    parts += f"  skipped {tick.bad} steps" if tick.bad else ""
    return f"{count:>10,} images {min(100 * count / images, 100):5.1f}%  left {left:>6}  {rate:7.1f} images/s  {parts}"

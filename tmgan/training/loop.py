"""The training loop, and nothing but the loop.

It trains any task: the encoders (encoder_task.py) or the editor (editor_task.py).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol

from torch import Tensor

from tmgan.config.runtime import Runtime
from tmgan.config.settings import OutputConfig
from tmgan.training.loaders.batch import Loader
from tmgan.training.run_folder import RunFolder, StopRequest
from tmgan.training.stats import JsonLines, Speed, Stats, TensorBoard


class Task(Protocol):
    """What the loop trains. A step is a pure function of the state and the step's number."""

    batch: int
    runtime: Runtime
    loader: Loader

    def step(self, step: int) -> dict[str, Tensor]:
        """Train one step; return its losses: scalars, still on the device, the same names in every step."""

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
        FloatingPointError: a loss is no longer finite.
    """
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
    stats, speed = Stats(), Speed(count)
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

        # Report. Reading the losses waits for the device, so the clock is read afterwards.
        if report:
            losses = stats.read()
            rate, left = speed.tick(count, images)
            run.log(_status_line(count, images, rate, left, losses))
            stats_file.write({"images": count, **losses, "images_per_second": rate})
            board.scalars("loss", losses, count)
            board.scalars("speed", {"images_per_second": rate}, count)
            _require_finite(all(math.isfinite(v) for v in losses.values()), run, count)
        elif save:
            _require_finite(stats.finite(), run, count)

        # Draw, measure, save.
        if draw:
            picture = run.samples / f"images-{count:012d}.png"
            task.draw(picture)
            board.picture(picture, count)
            speed.resume(count)
        if save:
            metrics = task.measure() if measure else {}
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
        stats.add(task.step(step))
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


def _require_finite(finite: bool, run: RunFolder, count: int) -> None:
    if not finite:
        raise FloatingPointError(
            f"Training diverged: a loss stopped being finite before image {count:,}. The checkpoints in "
            f"{run.checkpoints.folder} are from before. Try lower learning rates (they may be changed in a run) or "
            "another run with --runtime.precision fp32."
        )


def _status_line(count: int, images: int, rate: float, left: str, losses: dict[str, float]) -> str:
    parts = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
    return f"{count:>10,} images {min(100 * count / images, 100):5.1f}%  left {left:>6}  {rate:7.1f} images/s  {parts}"

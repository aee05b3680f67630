"""The training loop, and nothing but the loop. It trains any task: the encoders (damsm.py) or the editor (gan.py)."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol

from torch import Tensor

from tmgan.config import OutputConfig
from tmgan.runfolder import RunFolder, StopRequest
from tmgan.stats import JsonLines, Speed, Stats, TensorBoard


class Task(Protocol):
    """What the loop trains. A step is a pure function of the state and the step's number."""

    batch: int

    def step(self, step: int) -> dict[str, Tensor]:
        """Train one step; return its losses, still on the device."""

    def state_dict(self) -> dict:
        """Everything that training changes, as plain types."""

    def load_state_dict(self, state: dict) -> None:
        """Restore what state_dict gave."""

    def draw(self, path: Path) -> None:
        """Write a picture of the progress."""

    def measure(self) -> dict[str, float]:
        """Cheap metrics for metrics.jsonl; a "score", higher is better, picks the best checkpoint. May be empty."""

    def export(self, folder: Path, images: int) -> None:
        """Write what users of the trained model need."""


def train(task: Task, run: RunFolder, images: int, output: OutputConfig, stop: StopRequest) -> str:
    """Train `task` until `images` images have been seen. Returns "done", or "stopped" when a signal came."""
    # Resume.
    state = run.checkpoints.load_latest()
    seen, step = 0, 0
    if state is not None:
        task.load_state_dict(state["task"])
        seen, step = state["images"], state["step"]
        run.log(f"Resuming {run.path} at {seen:,} of {images:,} images.")
        if seen >= images:
            run.log("It is complete already. Give more --images to train on.")
            run.status("done", seen)
            return "done"
    stats, speed = Stats(), Speed(seen)
    stats_file, metrics_file = JsonLines(run.path / "stats.jsonl", seen), JsonLines(run.path / "metrics.jsonl", seen)
    board = TensorBoard(run.path / "tensorboard", seen)
    run.status("running", seen)
    start = seen

    while True:
        done = seen >= images

        def due(interval: int) -> bool:
            """True at the first step boundary past a multiple of the interval, but not right after resuming."""
            return seen > start and (done or seen % interval < task.batch)

        # Report.
        if due(output.tick_images):
            rate, left = speed.tick(seen, images)
            losses = stats.read()
            row = {"images": seen, **losses, "images_per_second": rate}
            run.log(_status_line(seen, images, rate, left, losses))
            stats_file.write(row)
            board.write(row)
            if losses and not all(math.isfinite(v) for v in losses.values()):
                bad = ", ".join(name for name, v in losses.items() if not math.isfinite(v))
                run.status("failed", seen, reason=f"not finite: {bad}")
                raise FloatingPointError(
                    f"Training diverged: {bad} stopped being finite before image {seen:,}. The last checkpoint in "
                    f"{run.checkpoints.folder} is from before. Try lower learning rates (--optim.lr-g, --optim.lr-d) "
                    "or --runtime.precision fp32.")

        # Draw, measure, save.
        if due(output.sample_images):
            task.draw(run.samples / f"images-{seen:09d}.png")
            speed.resume(seen)
        if due(output.checkpoint_images) or (stop.signal and seen > start):
            metrics = {} if stop.signal else task.measure()
            if metrics:
                metrics_file.write({"images": seen, **metrics})
                board.write({"images": seen, **metrics})
                run.log("  " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
            run.checkpoints.save(seen, {"step": step, "task": task.state_dict()}, metrics.get("score"))
            task.export(run.path, seen)
            run.status("running", seen)
            speed.resume(seen)

        if done:
            run.status("done", seen)
            return "done"
        if stop.signal:
            run.log(f"Stopped by {stop.signal} at {seen:,} images; the same command resumes here.")
            run.status("stopped", seen, reason=stop.signal)
            return "stopped"

        # Train.
        stats.add(task.step(step))
        step += 1
        seen += task.batch


def _status_line(seen: int, images: int, rate: float, left: str, losses: dict[str, float]) -> str:
    parts = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
    return f"{seen:>10,} images {100 * seen / images:5.1f}%  left {left:>6}  {rate:7.1f} images/s  {parts}"



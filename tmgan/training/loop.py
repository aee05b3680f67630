"""The training loop, and nothing but the loop.

It trains any task (task.py), and saves in the background (saving.py).
"""

from __future__ import annotations

from contextlib import closing, nullcontext, suppress

from tmgan.common.interrupt import Interrupted, StopRequest
from tmgan.config.settings import OutputConfig
from tmgan.training.divergence import leave_flight, measure, require_good_steps
from tmgan.training.recorder import Recorder, Tick, set_aside
from tmgan.training.run_folder import RunFolder
from tmgan.training.saving import Saver
from tmgan.training.signs import SIGNS, CollapseWatch
from tmgan.training.stats import JsonLines, Speed, TensorBoard
from tmgan.training.task import Task

PICTURE, METRICS = "picture", "metrics"  # what a step boundary may owe


def train(task: Task, run: RunFolder, images: int, output: OutputConfig, stop: StopRequest) -> str:
    """Train `task` until `images` images have been seen.

    Returns:
        "done", or "stopped" when a signal came.

    Raises:
        FloatingPointError: the last steps' numbers were not finite, one after another.
        OSError: a file of the run could not be written.
    """
    recorder = Recorder()
    try:
        return _train(task, run, images, output, stop, recorder)
    except Exception as error:
        leave_flight(error, recorder, task, run)
        raise


def _train(task: Task, run: RunFolder, images: int, output: OutputConfig, stop: StopRequest, recorder: Recorder) -> str:
    # Resume.
    count, step, owed = _resume(task, run)
    start = saved = count
    stats_file = JsonLines(run.path / "stats.jsonl", count)
    metrics_file = JsonLines(
        run.path / "metrics.jsonl", count - (METRICS in owed)
    )  # a row of this boundary comes again
    run.checkpoints.restore_best(
        {row["images"]: row["score"] for row in metrics_file.rows if isinstance(row.get("score"), float)}
    )
    if count >= images and not owed:
        task.export(run.path, count, task.state_dict())  # a crash may have come between the checkpoint and its export
        run.log(f"{run.path} is complete: {count:,} images.")
        run.status("done", count)
        return "done"
    set_aside(run.path)
    if count:
        run.log(f"Resuming {run.path} at {count:,} of {images:,} images.")
    watch, speed = CollapseWatch(), Speed(count)
    board = TensorBoard(run.path / "tensorboard", count, (run.path / "config.yaml").read_text("utf-8"))

    with stop.deferred(), closing(board), Saver(task, run) as saver:
        run.status("running", count)
        while True:
            saver.check()
            complete = count >= images
            # At the first step boundary past a multiple of the interval; right after resuming, what that one owes.
            report, draw, evaluate = (
                count > start and (complete or count % interval < task.batch)
                for interval in (output.tick_images, output.sample_images, output.checkpoint_images)
            )
            if count > start:
                owed = [name for name, wanted in ((PICTURE, draw), (METRICS, evaluate)) if wanted]
            due = tuple(owed)

            # Report. Reading the numbers waits for the device, so the clock is read afterwards.
            if report:
                tick = recorder.read()
                rate, left = speed.tick(count, images)
                run.log(_status_line(count, images, rate, left, tick))
                bad = {"bad_steps": tick.bad} if tick.bad else {}
                stats_file.write({"images": count, **tick.means, **bad, "images_per_second": rate})
                board.scalars("loss", {name: value for name, value in tick.means.items() if name not in SIGNS}, count)
                signs = {name: value for name, value in tick.means.items() if name in SIGNS}
                board.scalars("sign", {**signs, "bad_steps": tick.bad}, count)
                board.scalars("speed", {"images_per_second": rate}, count)
                for line in watch.look(tick.means):
                    run.log(line)
            if report or due or recorder.full:
                require_good_steps(recorder, task, run, complete)

            # Draw and measure. What a signal cuts off is owed: the checkpoint says so, the resumed run begins with it.
            picture, metrics = run.samples / f"images-{count:012d}.png", {}
            with suppress(Interrupted), stop.at_once() if due else nullcontext():
                if PICTURE in due:
                    task.draw(picture)
                    owed.remove(PICTURE)
                    stop.check()  # the exception may have been lost in a callback
                if METRICS in due:
                    metrics = measure(task, run, count, recorder)
                    owed.remove(METRICS)
                    stop.check()
            if PICTURE in due and PICTURE not in owed:
                board.picture(picture, count)
            if metrics and METRICS not in owed:
                metrics_file.write({"images": count, **metrics})
                board.scalars("metric", metrics, count)
                run.log("  " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))

            # Save. The signal is read once: one that comes from here on takes effect at the next boundary, so that no
            # run says that it stopped where it did not save.
            signal = stop.signal
            save = len(owed) < len(due) if count == saved else METRICS in due or signal is not None
            # Weights whose every next step is bad would replace those of before; on leaving, there is no later.
            if save and (complete or signal is not None or recorder.streak() == 0):
                state = {"step": step, "task": task.state_dict(), "identity": task.identity()}
                state |= {"numerics": _numerics(task), "owed": owed}
                saver.save(count, state, None if METRICS in owed else metrics.get("score"))
                saved = count
            if due or save:
                speed.resume(count)

            if complete and not owed:
                saver.wait()
                run.status("done", count)
                return "done"
            if signal is not None:
                return _stopped(run, saver, signal, count)

            # Train. The first step after a save, which may compile for minutes, has nothing to lose but itself.
            try:
                with stop.at_once() if count == saved else nullcontext():
                    numbers = task.step(step)
            except Interrupted as interrupt:
                return _stopped(run, saver, interrupt.signal.name, count)
            recorder.add(step, numbers)
            step += 1
            count += task.batch


def _stopped(run: RunFolder, saver: Saver, signal: str, count: int) -> str:
    saver.wait()
    run.log(f"Stopped by {signal} at {count:,} images; the same command resumes here.")
    run.status("stopped", count, reason=signal)
    return "stopped"


def _resume(task: Task, run: RunFolder) -> tuple[int, int, list[str]]:
    """Load the newest checkpoint, if there is one, into the task.

    Returns:
        Images seen, steps done, and what the boundary still owes.

    Raises:
        ValueError: the data or the encoders are no longer those that the run began with.
    """
    state = run.checkpoints.load_latest()
    if state is None:
        return 0, 0, []
    names = [name for name, value in task.identity().items() if state.get("identity", {}).get(name) != value]
    if names:
        raise ValueError(
            f"{run.path} was trained with another {' and another '.join(names)}. Restore the previous one "
            "to resume, or choose another --run."
        )
    now, before = (
        _numerics(task),
        {"pixels": "tiles", **state.get("numerics", {})},
    )  # runs of earlier versions had no others
    if now != before:
        differs = ", ".join(
            f"{name} {before.get(name)} then, {now[name]} now" for name in now if now[name] != before.get(name)
        )
        run.log(f"NOTE: {differs}: the run goes on, but not to the same bits.")
    try:
        task.load_state_dict(state["task"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"The newest checkpoint in {run.checkpoints.folder} does not hold the networks of this run "
            f"({error!r:.200}). Move it away to go on from the one before."
        ) from error
    for note in task.notes():
        run.log(f"NOTE: {note}")
    return state["images"], state["step"], state.get("owed", [])  # earlier versions stopped when all was done


def _numerics(task: Task) -> dict[str, str | int]:
    """What the last bits of a step depend on."""
    return {**task.runtime.numerics(), "pixels": task.loader.pixels}


def _status_line(count: int, images: int, rate: float, left: str, tick: Tick) -> str:
    parts = "  ".join(f"{name} {value:.3f}" for name, value in tick.means.items() if name not in SIGNS)
    parts += f"  skipped {tick.bad}" if tick.bad else ""
    return f"{count:>10,} images {min(100 * count / images, 100):5.1f}%  left {left:>6}  {rate:7.1f} images/s  {parts}"

"""How long a save holds the training up, how long until it is on the disk, and how long SIGTERM takes to get there.

    python -m benchmarks.reliability.saves [--preset lightweight] [--batch 2] [--out FILE]

The published widths at 256 pixels, on the GPU where there is one: drawn birds, encoders with random weights, the real
loop and its files. Small batches leave the copy the least time to hide in.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe
from tmgan.common.interrupt import StopRequest
from tmgan.config import configfile
from tmgan.config.runtime import decide
from tmgan.config.settings import OutputConfig, RuntimeConfig, TrainConfig
from tmgan.data.drawn.drawn_pack import drawn_pack
from tmgan.models.bundle import build_encoders
from tmgan.training.bench import synchronise
from tmgan.training.editor_task import EditorTask
from tmgan.training.loop import train
from tmgan.training.run_folder import RunFolder
from tmgan.training.saving import Saver

BIRDS = 12
PLAIN, SAVES = 3, 3  # steps without and with a save
NEVER = 10**9  # images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="lightweight")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.preset, arguments.batch, arguments.engine)
    print(json.dumps(result, indent=1))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(preset: str, batch: int, engine: str = "auto") -> dict:
    """The document of one preset on this machine; all times in seconds."""
    config = dataclasses.replace(configfile.from_preset(preset), batch=batch, images=NEVER)
    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(config, run=folder + "/run", output=_never(config))
        pack = drawn_pack(Path(folder) / "drawn", BIRDS, 0, config.model.image_size, print)
        encoders = build_encoders(config.encoder, config.model.image_size, pack.vocabulary, 0)
        for network in (encoders.text, encoders.photo):
            network.eval().requires_grad_(False)
        runtime = decide(dataclasses.replace(RuntimeConfig(), engine=engine))
        task = EditorTask(config, pack, encoders, runtime)
        run = RunFolder(config.run, config, 2)
        try:
            rows, plain = _saves(task, run)
            seconds, left = _sigterm(task, run)
        finally:
            task.loader.close()
            run.close()
        size = run.checkpoints.paths()[0].stat().st_size
    return {
        "schema": 1,
        "kind": "reliability-saves",
        "preset": preset,
        "image_size": config.model.image_size,
        "batch": batch,
        "engine": runtime.engine,
        "checkpoint_bytes": size,
        "step_seconds": plain,
        "rows": rows,
        "sigterm": {"seconds": seconds, "step_seconds": left},
        "machine": describe(runtime.device.type),
    }


def _never(config: TrainConfig) -> OutputConfig:
    return dataclasses.replace(config.output, tick_images=NEVER, sample_images=NEVER, checkpoint_images=NEVER)


def _saves(task: EditorTask, run: RunFolder) -> tuple[list[dict], float]:
    """Rows of saves, and the seconds of a step without one.

    Meanwhile a step is done, which tells how long it waits before its first update; or a Python loop turns, whose
    longest turn tells how long the writer keeps the interpreter, and with it a step that feeds a GPU.
    """

    def step() -> float:
        nonlocal number
        synchronise(task.runtime.device)
        start = time.perf_counter()
        task.step(number)
        synchronise(task.runtime.device)
        number += 1
        return time.perf_counter() - start

    number, waited, durable = 0, [0.0], 0.0
    step()
    plain = statistics.median(step() for _ in range(PLAIN))
    with Saver(task, run) as saver:
        wait, status = task.train_step.before_update, run.status

        def timed_wait() -> None:
            before = time.perf_counter()
            wait()
            waited.append(time.perf_counter() - before)

        def timed_status(*what: Any) -> None:
            nonlocal durable
            status(*what)
            durable = time.perf_counter()

        task.train_step.before_update = timed_wait
        run.status = timed_status  # type: ignore[method-assign]  # a save ends with it

        def save(meanwhile: Callable[[], dict]) -> dict:
            nonlocal durable
            waited.clear()
            durable = 0.0
            state = {"step": number, "identity": task.identity(), "numerics": task.runtime.numerics(), "owed": []}
            start = time.perf_counter()
            saver.save(number * task.batch, {**state, "task": task.state_dict()}, None)
            call = time.perf_counter() - start
            row = meanwhile()
            saver.wait()
            return {"call_seconds": call, **row, "durable_seconds": durable - start}

        def one_step() -> dict:
            return {"step_seconds": step(), "wait_seconds": sum(waited)}

        def longest_turn() -> dict:
            last, longest = time.perf_counter(), 0.0
            while durable == 0:
                now = time.perf_counter()
                last, longest = now, max(longest, now - last)
            return {"turn_seconds": longest}

        rows = [save(meanwhile) for meanwhile in [longest_turn] * SAVES + [one_step] * SAVES]
        del run.status
    return rows, plain


def _sigterm(task: EditorTask, run: RunFolder) -> tuple[float, float]:
    """Seconds from a SIGTERM, in the middle of the second step of a run that goes on, until the loop has returned; and
    how many of these the step still took."""
    sent = ended = 0.0
    train_one, steps = task.step, 0

    def send() -> None:
        nonlocal sent
        sent = time.perf_counter()
        os.kill(os.getpid(), signal.SIGTERM)

    def step(number: int) -> dict:
        nonlocal ended, steps
        steps += 1
        timer = threading.Timer(0.05, send)
        if steps == 2:
            timer.start()
        losses = train_one(number)
        ended = time.perf_counter()
        return losses

    before, stop = run.checkpoints.paths()[0], StopRequest()
    task.step = step  # type: ignore[method-assign]
    try:
        train(task, run, NEVER, task.config.output, stop)
    finally:
        returned = time.perf_counter()
        stop.restore()
    if steps != 2 or run.checkpoints.paths()[0] == before:
        raise RuntimeError("the interrupted step was not saved")
    return returned - sent, ended - sent


if __name__ == "__main__":
    torch.manual_seed(0)
    main()

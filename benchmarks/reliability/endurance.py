"""Trains a tiny network for long, and fits what the process holds: memory, handles, threads, tensors.

    python -m benchmarks.reliability.endurance [--steps 3000] [--out FILE]

It is one `tmgan train` with given encoders, with a status line for every step, a checkpoint and metrics for every
tenth and a picture for every twentieth. Between two saves, about a hundred times in all, rubbish is collected, freed
memory is given back, and what is left is counted. The slope of the second half must be no more than BOUNDS: the median
of the slopes between any two samples, which a single sample beside a save does not move. The first half is not fitted:
buffers, caches and pools fill.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import gc
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.machine import describe
from benchmarks.reliability.smallest import BATCH, settings, write_pack
from tmgan.common.files import write_json
from tmgan.common.progress import quiet
from tmgan.config.settings import DamsmConfig
from tmgan.training.editor_task import EditorTask
from tmgan.training.jobs import train_editor, train_encoders

INTERVAL = 10  # steps
# What a thousand steps may add. The resident memory also holds what the allocator has not given back, so it is coarse;
# the tensors are counted one by one.
BOUNDS = {
    "resident_bytes": 1.0e6,
    "handles": 0.2,
    "threads": 0.2,
    "tensors": 1.0,
    "tensor_bytes": 1.0e4,
    "cuda_bytes": 1.0e5,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--out", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, quiet():
        samples = train(write_pack(Path(folder)), Path(folder), arguments.steps)
    document = {
        "schema": 1,
        "kind": "reliability-endurance",
        "machine": describe("cuda" if torch.cuda.is_available() else "cpu"),
        "steps": arguments.steps,
        "interval_steps": INTERVAL,
        "bounds_per_1000_steps": BOUNDS,
        "growth_per_1000_steps": growth(samples),
        "samples": samples,
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps({**document, "samples": [samples[0], samples[-1]]}, indent=1))
    if arguments.out:
        write_json(arguments.out, document)
    above = too_much(samples, BOUNDS)
    if above:
        sys.exit(f"grows: {', '.join(above)}")


def train(
    pack: Path, folder: Path, steps: int, samples: int = 100, each_step: Callable[[], object] = lambda: None
) -> list[dict[str, int]]:
    """Train in `folder`.

    Args:
        pack: of write_pack.
        folder: that the runs are made in.
        steps: of the editor.
        samples: about how many to take.
        each_step: called before every step.

    Returns:
        The samples, in the order of their steps.
    """
    taken: list[dict[str, int]] = []
    every = max(1, round(steps / samples / INTERVAL)) * INTERVAL
    step = EditorTask.step

    def sampled(task: EditorTask, number: int) -> dict[str, torch.Tensor]:
        if number % every == INTERVAL // 2:  # between two saves
            taken.append({"step": number, **held()})
        each_step()
        return step(task, number)

    config = settings(pack, folder / "run", steps * BATCH, BATCH, INTERVAL * BATCH, device="auto")
    encoders = train_encoders(
        DamsmConfig(
            data=str(pack),
            run=str(folder / "encoders"),
            encoder=config.encoder,
            pretrain=config.pretrain,
            runtime=config.runtime,
        )
    )
    gc.freeze()  # what is there already, half a million objects of modules, need not be looked through each time
    EditorTask.step = sampled  # type: ignore[method-assign, assignment]
    try:
        train_editor(dataclasses.replace(config, encoders=str(encoders)), evaluated=False)
    finally:
        EditorTask.step = step  # type: ignore[method-assign]
        gc.unfreeze()
    return taken


def held() -> dict[str, int]:
    """What this process holds now."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    found = {
        "resident_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "handles": len(os.listdir("/proc/self/fd")) - 1,  # without the one that lists them
        "threads": len(os.listdir("/proc/self/task")),
        "tensors": len(tensors),
        "tensor_bytes": sum(tensor.nbytes for tensor in tensors),
    }
    return found | ({"cuda_bytes": torch.cuda.memory_allocated()} if torch.cuda.is_initialized() else {})


def growth(samples: list[dict[str, int]]) -> dict[str, float]:
    """What a thousand steps add: of the second half of the samples, the median slope of all pairs (Theil and Sen)."""
    pairs = list(itertools.combinations(samples[len(samples) // 2 :], 2))
    return {
        name: statistics.median(1000 * (b[name] - a[name]) / (b["step"] - a["step"]) for a, b in pairs)
        for name in samples[-1]
        if name != "step"
    }


def too_much(samples: list[dict[str, int]], bounds: dict[str, float]) -> list[str]:
    """What grows beyond its bound for a thousand steps."""
    return [name for name, slope in growth(samples).items() if slope > bounds[name]]


if __name__ == "__main__":
    main()

"""Measures training steps: engines and their parts, the published step, time to the first step. Makes the document.

python -m benchmarks.step.measure --results benchmarks/results     # reduced sizes on a CPU, the full ones on a GPU
python -m benchmarks.step.measure --start compiled                 # one cold or warm start, for itself
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks import machine
from benchmarks.step import schema as schema_step
from tmgan.config import configfile
from tmgan.config.runtime import Runtime, decide
from tmgan.config.settings import RuntimeConfig, TrainConfig
from tmgan.training import bench
from tmgan.training.bench import Clock, Spread

LEAST = 4  # timed calls, however long they take
# On a CPU thin networks, fewer pixels and images: it shows ratios of work, not of a GPU.
REDUCED = {"batch": 2, "model": {"image_size": 64, "g_width": 8, "d_width": 8, "affine_dim": 32}}


def settings(gpu: bool, batch: int = 0, preset: str = "") -> TrainConfig:
    """The paper's combined method; on a CPU, reduced and without the segmentation, which would be all one sees."""
    config = configfile.from_preset(preset or ("combined" if gpu else "sad9"))
    if not gpu and not preset:
        config = configfile.merge(config, REDUCED, "reduced")
    return dataclasses.replace(config, batch=batch or config.batch)


def rows_of(engine: str, part: str, took: Spread, gflop: float, batch: int, peak: float) -> dict:
    row = {
        "engine": engine,
        "part": part,
        **times(took),
        "images_per_second": batch / took.median,
        "gflop_per_image": gflop,
    }
    return {**row, "share_of_peak": schema_step.share(row, batch, peak)}


def times(took: Spread) -> dict:
    return {"seconds": took.median, "iqr_seconds": took.iqr, "samples": took.samples}


def measure_engines(
    config: TrainConfig, runtime: Runtime, engines: tuple[str, ...], peak: float, seconds: float, say=print
) -> list[dict]:
    """A row a whole step of each engine, and of each part of it where an engine has parts."""
    rows, work = [], step_gflop(config, runtime)
    for engine in engines:
        made = bench.synthetic_step(config, dataclasses.replace(runtime, engine=engine))
        rows.append(measure_step(made, engine, config, runtime, work, peak, seconds))
        say(f"{engine}: {rows[-1]['images_per_second']:.1f} images/s")
        if engine != "graphed":
            rows += measure_parts(made, engine, config, runtime, work, peak, seconds)
    return rows


def step_gflop(config: TrainConfig, runtime: Runtime) -> dict[str, float]:
    """10^9 operations an image of each part; counted on eager steps, which are the same work in every engine.

    On three small batches, because this may run beside a step that fills the memory: a step's work is a quadratic
    function of the size of the batch (matching compares all pairs), which these three determine.
    """

    def counted(rows: int) -> dict[str, float]:
        made = bench.synthetic_step(
            dataclasses.replace(config, batch=rows), dataclasses.replace(runtime, engine="eager")
        )
        return {part: rows * work for part, work in bench.gflop(made.step, made.batch).items()}

    two, three, four, n = counted(2), counted(3), counted(4), config.batch
    return {
        part: (two[part] * (n - 3) * (n - 4) / 2 - three[part] * (n - 2) * (n - 4) + four[part] * (n - 2) * (n - 3) / 2)
        / n
        for part in two
    }


def measure_step(
    made: bench.SyntheticStep,
    engine: str,
    config: TrainConfig,
    runtime: Runtime,
    work: dict[str, float],
    peak: float,
    seconds: float,
) -> dict:
    """The row of whole steps."""
    forget_peak(runtime)
    took = bench.time_step(made.step, made.batch, seconds, LEAST, clock(runtime))
    return rows_of(engine, "step", took, sum(work.values()), config.batch, peak) | peak_bytes(runtime)


def measure_parts(
    made: bench.SyntheticStep,
    engine: str,
    config: TrainConfig,
    runtime: Runtime,
    work: dict[str, float],
    peak: float,
    seconds: float,
) -> list[dict]:
    """A row a part of the step; one graph has none."""
    return [
        rows_of(engine, part, took, work[part], config.batch, peak)
        for part, took in bench.time_components(made.step, made.batch, seconds, LEAST, clock(runtime)).items()
    ]


def measure_published(config: TrainConfig, runtime: Runtime, peak: float, seconds: float, say=print) -> dict:
    """The published way, at the same batch, in fp32 with TF32 as its torch had it."""
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.step.published import PublishedStep, published_fcn

    made = bench.synthetic_step(config, dataclasses.replace(runtime, engine="eager", precision="fp32"))
    fcn = published_fcn().to(runtime.device) if config.method.keep_mask == "fcn" else None
    step = PublishedStep(
        made.step.generator, made.step.discriminator, made.text, made.photo, config.loss, config.optim, fcn, blur=True
    )
    with tf32():
        with FlopCounterMode(display=False) as counter:
            step(made.batch)
        forget_peak(runtime)
        took = bench.time_calls(lambda: step(made.batch), runtime.device, seconds, LEAST, clock(runtime))
    say(f"published: {config.batch / took.median:.1f} images/s")
    work = counter.get_total_flops() / config.batch / 1e9
    return rows_of("published", "step", took, work, config.batch, peak) | peak_bytes(runtime)


def forget_peak(runtime: Runtime) -> None:
    if runtime.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_bytes(runtime: Runtime) -> dict:
    """Most memory allocated at once while timing; null on a CPU."""
    return {"peak_bytes": torch.cuda.max_memory_allocated() if runtime.device.type == "cuda" else None}


class tf32:
    """As torch 1.10 had it: on a GPU, convolutions and products of fp32 in TF32."""

    def __enter__(self):
        self._before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True

    def __exit__(self, *error):
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._before


def measure_starts(engines: tuple[str, ...], preset: str, gpu: bool) -> Iterator[dict]:
    """Seconds from a new Python process to the end of its first step, with an empty and with a filled compiler cache.

    On a CPU the processor time of that process and of the compilers it starts.
    """

    def seconds() -> float:
        if gpu:
            return time.perf_counter()
        used = os.times()
        return used.children_user + used.children_system

    with tempfile.TemporaryDirectory() as cache:
        for engine in engines:
            for state in ("cold", "warm"):
                start = seconds()
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.step.measure", "--start", engine, "--preset", preset],
                    check=True,
                    cwd=machine.ROOT,
                    env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache, "TRITON_CACHE_DIR": cache},
                )
                yield {"engine": engine, "state": state, "seconds": seconds() - start}


def first_step(engine: str, preset: str) -> None:
    runtime = decide(RuntimeConfig(engine=engine, threads=threads()))
    made = bench.synthetic_step(settings(runtime.device.type == "cuda", preset=preset), runtime)
    made.step(made.batch, 0)
    bench.synchronise(runtime.device)


def clock(runtime: Runtime) -> Clock:
    """On a CPU the time that we had the processor, which busy neighbours disturb less; for a run with one thread."""
    return time.perf_counter if runtime.device.type == "cuda" else time.process_time


def threads() -> int:
    """All on a GPU machine; one on a CPU, where processor time is measured."""
    return 0 if torch.cuda.is_available() else 1


def settings_of(config: TrainConfig, runtime: Runtime) -> dict:
    """What a document says of the run it is of."""
    model = config.model
    return {
        "preset": config.preset,
        "image_size": model.image_size,
        "g_width": model.g_width,
        "d_width": model.d_width,
        "batch": config.batch,
        "precision": runtime.precision,
        "threads": runtime.threads,
    }


def document(config: TrainConfig, runtime: Runtime, peak: float, started: float, **parts: list) -> dict:
    return {
        "schema": schema_step.SCHEMA,
        "machine": machine.describe(runtime.device.type),
        "settings": settings_of(config, runtime),
        "peak_gflops": peak,
        "seconds": round(time.monotonic() - started, 1),
        **{"rows": [], "starts": [], "ablation": [], **parts},
    }


def name(made: dict, kind: str) -> str:
    gpu = made["machine"]["gpu"]
    where = re.sub(r"\W+", "-", "cpu" if gpu == "not used" else gpu).strip("-").lower()
    settings = made["settings"]
    return f"{kind}-{where}-{settings['preset']}-batch{settings['batch']}-{made['machine']['date']}.json"


def write(made: dict, path: Path) -> Path:
    """To `path`, or into it under a name of its own if it is a folder."""
    path = path if path.suffix == ".json" else path / name(made, "steps")
    path.write_text(json.dumps(made, indent=1) + "\n")
    schema_step.check(made)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, help="folder or .json file to write to")
    parser.add_argument("--batch", type=int, default=0, help="images a step; the published code used 10")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to measure each engine")
    parser.add_argument("--preset", default="", help="networks and method; default: combined, on a CPU a thin sad9")
    parser.add_argument(
        "--engines",
        nargs="+",
        choices=("eager", "compiled", "graphed"),
        help="default: all on a GPU, eager on a CPU, where compiling Inception takes long",
    )
    parser.add_argument("--starts", action="store_true", help="also the time to the first step, cold: minutes")
    parser.add_argument("--start", help="make one step with this engine and stop")
    given = parser.parse_args()
    if given.start:
        first_step(given.start, given.preset)
        return
    started = time.monotonic()
    runtime = decide(RuntimeConfig(threads=threads()))
    gpu = runtime.device.type == "cuda"
    config = settings(gpu, given.batch, given.preset)
    engines = tuple(given.engines or (("eager", "compiled", "graphed") if gpu else ("eager",)))
    peak = bench.peak(runtime.device, runtime.precision, clock=clock(runtime))
    rows = [measure_published(config, runtime, peak, given.seconds)] if config.encoder.kind == "inception" else []
    rows += measure_engines(config, runtime, engines, peak, given.seconds)
    starts = list(measure_starts(engines, given.preset, gpu)) if given.starts else []
    made = document(config, runtime, peak, started, rows=rows, starts=starts)
    print(write(made, given.results) if given.results else json.dumps(made, indent=1))


if __name__ == "__main__":
    main()

"""Measures training steps: engines and their parts, the published step, time to the first step. Makes the document.

python -m benchmarks.step.measure --results benchmarks/results     # reduced sizes on a CPU, the full ones on a GPU
python -m benchmarks.step.measure --start compiled                 # one cold or warm start, by itself
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
    """The paper's combined method; on a CPU, reduced and without the segmentation, which would dominate."""
    config = configfile.from_preset(preset or ("combined" if gpu else "sad9"))
    if not gpu and not preset:
        config = configfile.merge(config, REDUCED, "reduced")
    return dataclasses.replace(config, batch=batch or config.batch)


def rows_of(engine: str, part: str, spread: Spread, gflop: float, batch: int, peak: float) -> dict:
    row = {
        "engine": engine,
        "part": part,
        **times(spread),
        "images_per_second": batch / spread.median,
        "gflop_per_image": gflop,
    }
    return {**row, "share_of_peak": schema_step.share(row, batch, peak)}


def times(spread: Spread) -> dict:
    return {"seconds": spread.median, "iqr_seconds": spread.iqr, "samples": spread.samples}


def measure_engines(
    config: TrainConfig, runtime: Runtime, engines: tuple[str, ...], peak: float, seconds: float, say=print
) -> list[dict]:
    """One row per engine for whole steps, and one for each part of a step where an engine has parts."""
    rows, work = [], step_gflop(config, runtime)
    for engine in engines:
        synthetic = bench.synthetic_step(config, dataclasses.replace(runtime, engine=engine))
        rows.append(measure_step(synthetic, engine, config, runtime, work, peak, seconds))
        say(f"{engine}: {rows[-1]['images_per_second']:.1f} images/s")
        if engine != "graphed":
            rows += measure_parts(synthetic, engine, config, runtime, work, peak, seconds)
    return rows


def step_gflop(config: TrainConfig, runtime: Runtime) -> dict[str, float]:
    """10^9 operations per image of each part; counted on eager steps, which are the same work in every engine.

    On three small batches, because this may run beside a step that fills the memory: a step's work is a quadratic
    function of the size of the batch (matching compares all pairs), which these three determine.
    """

    def counted(rows: int) -> dict[str, float]:
        synthetic = bench.synthetic_step(
            dataclasses.replace(config, batch=rows), dataclasses.replace(runtime, engine="eager")
        )
        return {part: rows * work for part, work in bench.gflop(synthetic.step, synthetic.batch).items()}

    two, three, four, n = counted(2), counted(3), counted(4), config.batch
    return {
        part: (two[part] * (n - 3) * (n - 4) / 2 - three[part] * (n - 2) * (n - 4) + four[part] * (n - 2) * (n - 3) / 2)
        / n
        for part in two
    }


def measure_step(
    synthetic: bench.SyntheticStep,
    engine: str,
    config: TrainConfig,
    runtime: Runtime,
    work: dict[str, float],
    peak: float,
    seconds: float,
) -> dict:
    """The row of whole steps. A graph's memory was taken when it was captured."""
    if engine != "graphed":
        forget_peak(runtime)
    spread = bench.time_step(synthetic.step, synthetic.batch, seconds, LEAST, clock(runtime))
    return rows_of(engine, "step", spread, sum(work.values()), config.batch, peak) | peak_bytes(runtime)


def measure_parts(
    synthetic: bench.SyntheticStep,
    engine: str,
    config: TrainConfig,
    runtime: Runtime,
    work: dict[str, float],
    peak: float,
    seconds: float,
) -> list[dict]:
    """One row per part of the step; a step that is one graph has no parts."""
    return [
        rows_of(engine, part, spread, work[part], config.batch, peak)
        for part, spread in bench.time_components(
            synthetic.step, synthetic.batch, seconds, LEAST, clock(runtime)
        ).items()
    ]


def measure_published(config: TrainConfig, runtime: Runtime, peak: float, seconds: float, say=print) -> dict:
    """The published step, at the same batch, in fp32 with TF32 as its torch had it."""
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.step.published import PublishedStep, published_fcn

    synthetic = bench.synthetic_step(config, dataclasses.replace(runtime, engine="eager", precision="fp32"))
    fcn = published_fcn().to(runtime.device) if config.method.keep_mask == "fcn" else None
    step = PublishedStep(
        synthetic.step.generator,
        synthetic.step.discriminator,
        synthetic.text,
        synthetic.photo,
        config.loss,
        config.optim,
        fcn,
        blur=True,
    )
    with tf32():
        with FlopCounterMode(display=False) as counter:
            step(synthetic.batch)
        forget_peak(runtime)
        spread = bench.time_calls(lambda: step(synthetic.batch), runtime.device, seconds, LEAST, clock(runtime))
    say(f"published: {config.batch / spread.median:.1f} images/s")
    work = counter.get_total_flops() / config.batch / 1e9
    return rows_of("published", "step", spread, work, config.batch, peak) | peak_bytes(runtime)


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
        usage = os.times()
        return usage.children_user + usage.children_system

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
    synthetic = bench.synthetic_step(settings(runtime.device.type == "cuda", preset=preset), runtime)
    synthetic.step(synthetic.batch, 0)
    bench.synchronise(runtime.device)


def clock(runtime: Runtime) -> Clock:
    """On a CPU the time that we had the processor, which busy neighbours disturb less; for a run with one thread."""
    return time.perf_counter if runtime.device.type == "cuda" else time.process_time


def threads() -> int:
    """All on a GPU machine; one on a CPU, where processor time is measured."""
    return 0 if torch.cuda.is_available() else 1


def settings_of(config: TrainConfig, runtime: Runtime) -> dict:
    """What a document says about the settings of its run."""
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


def document(config: TrainConfig, runtime: Runtime, peak: float, start: float, **parts: list) -> dict:
    return {
        "schema": schema_step.SCHEMA,
        "machine": machine.describe(runtime.device.type),
        "settings": settings_of(config, runtime),
        "peak_gflops": peak,
        "seconds": round(time.monotonic() - start, 1),
        **{"rows": [], "starts": [], "ablation": [], **parts},
    }


def name(document: dict, kind: str) -> str:
    gpu = document["machine"]["gpu"]
    where = re.sub(r"\W+", "-", "cpu" if gpu == "not used" else gpu).strip("-").lower()
    settings = document["settings"]
    return f"{kind}-{where}-{settings['preset']}-batch{settings['batch']}-{document['machine']['date']}.json"


def write(document: dict, path: Path) -> Path:
    """Write to `path`, or to a new file in it if it is a folder."""
    path = path if path.suffix == ".json" else path / name(document, "steps")
    path.write_text(json.dumps(document, indent=1) + "\n")
    schema_step.check(document)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, help="folder or .json file to write to")
    parser.add_argument("--batch", type=int, default=0, help="images per step; the published code used 10")
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
    arguments = parser.parse_args()
    if arguments.start:
        first_step(arguments.start, arguments.preset)
        return
    start = time.monotonic()
    runtime = decide(RuntimeConfig(threads=threads()))
    gpu = runtime.device.type == "cuda"
    config = settings(gpu, arguments.batch, arguments.preset)
    engines = tuple(arguments.engines or (("eager", "compiled", "graphed") if gpu else ("eager",)))
    peak = bench.peak(runtime.device, runtime.precision, clock=clock(runtime))
    # What it is compared with is the published Lightweight GAN.
    comparable = config.encoder.kind == "inception" and config.model.architecture == "lightweight"
    rows = [measure_published(config, runtime, peak, arguments.seconds)] if comparable else []
    rows += measure_engines(config, runtime, engines, peak, arguments.seconds)
    starts = list(measure_starts(engines, arguments.preset, gpu)) if arguments.starts else []
    results = document(config, runtime, peak, start, rows=rows, starts=starts)
    print(write(results, arguments.results) if arguments.results else json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

"""`pytest benchmarks/ -k step`: the training step by engine and by part, beside the step as it was published.

A thin wrapper of measure.py, so that one command measures everything; on a CPU, thin networks.
"""

from __future__ import annotations

import time

from benchmarks.step import measure as measure_steps
from benchmarks.step import schema as schema_step
from tmgan.config.runtime import decide
from tmgan.config.settings import RuntimeConfig
from tmgan.training import bench

SECONDS = 5.0  # per engine


def test_step(request, tmp_path):
    start = time.monotonic()
    runtime = decide(RuntimeConfig(threads=measure_steps.threads()))
    gpu = runtime.device.type == "cuda"
    config, engines = measure_steps.settings(gpu), ("eager", "compiled", "graphed") if gpu else ("eager",)
    peak = bench.peak(runtime.device, runtime.precision, clock=measure_steps.clock(runtime))
    rows = [measure_steps.measure_published(config, runtime, peak, SECONDS)]
    rows += measure_steps.measure_engines(config, runtime, engines, peak, SECONDS)
    document = measure_steps.document(config, runtime, peak, start, rows=rows)
    schema_step.check(document)
    folder = request.config.getoption("--results")
    measure_steps.write(document, folder if folder is not None and not folder.suffix else tmp_path)

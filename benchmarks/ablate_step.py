"""What each optimisation of the step is worth: one run on a GPU in under 8 minutes, one thing changed at a time.

    python benchmarks/ablate_step.py --results benchmarks/results [--budget 440] [--batch 40]

The base is the step as training runs it: compiled on a GPU, eager on a CPU. The most important changes come first; what
the budget does not reach is listed as such. On a CPU, reduced networks: that says what a CPU thinks of it.
"""
from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import measure_steps
import rewrites
import torch
from gpu.journal import describe_error

import tmgan_kernels
from tmgan import bench
from tmgan.bench import Subject
from tmgan.config import RuntimeConfig, TrainConfig
from tmgan.models.encoders import PhotoEncoder
from tmgan.runtime import Runtime, decide


def fresh(config: TrainConfig, runtime: Runtime, **changed: str) -> Subject:
    return bench.subject(config, dataclasses.replace(runtime, **changed))


def planar(config: TrainConfig, runtime: Runtime) -> Subject:
    made = fresh(config, runtime)
    for network in (made.step.generator, made.step.discriminator, made.step.photo):
        network.to(memory_format=torch.contiguous_format)
    columns = {f.name: getattr(made.batch, f.name) for f in dataclasses.fields(made.batch)}
    batch = type(made.batch)(**{name: x.contiguous() if x is not None else None for name, x in columns.items()})
    return dataclasses.replace(made, batch=batch)


def with_photo(make: Callable[[PhotoEncoder], PhotoEncoder]) -> Callable[[TrainConfig, Runtime], Subject]:
    """The step with another form of the frozen networks."""
    def subject(config: TrainConfig, runtime: Runtime) -> Subject:
        made = fresh(config, runtime)
        made.step.objective.photo = make(made.photo).to(memory_format=torch.channels_last)
        return made

    return subject


def judged_with_gradients(config: TrainConfig, runtime: Runtime) -> Subject:
    """The discriminator not frozen while it judges: its weight gradients are computed and thrown away."""
    made = fresh(config, runtime)
    made.step.discriminator.requires_grad_ = lambda mode=True: made.step.discriminator
    return made


def flat(config: TrainConfig, runtime: Runtime) -> Subject:
    """Gradients accumulate into one buffer a network, cleared by one call."""
    made = fresh(config, runtime)
    for network, adam in ((made.step.generator, made.step.adam_g), (made.step.discriminator, made.step.adam_d)):
        buffer = rewrites.flat_gradients(network)
        adam.zero_grad = lambda set_to_none=True, buffer=buffer: buffer.zero_()
    return made


def changes(gpu: bool) -> list[tuple[str, contextlib.AbstractContextManager, Callable, dict]]:
    """(what is changed, what is active meanwhile, how to make the step, what of the runtime differs)."""
    none = contextlib.nullcontext
    definition = tmgan_kernels.prefer
    found = [("nothing", none(), fresh, {}),
             ("graphed", none(), fresh, {"engine": "graphed"}),
             ("eager", none(), fresh, {"engine": "eager"}),
             ("instance_norm_glu by Inductor", definition("eager", "instance_norm_glu"), fresh, {}),
             ("all fused operations by Inductor", definition("eager"), fresh, {}),
             ("fp32", none(), fresh, {"precision": "fp32"}),
             ("NCHW", none(), planar, {})]
    found += [(name, rewrites.rewritten(name), fresh, {}) for name in rewrites.REWRITES]
    found += [("batch norms not folded", none(), with_photo(lambda photo: photo), {}),
              ("discriminator not frozen while it judges", none(), judged_with_gradients, {}),
              ("flat gradient buffers", none(), flat, {}), ("compiled", none(), fresh, {"engine": "compiled"})]
    not_here = {"compiled"} if gpu else {"graphed", "eager", "instance_norm_glu by Inductor",
                                         "all fused operations by Inductor", "fp32"}
    return [change for change in found if change[0] not in not_here]


def measure(config: TrainConfig, runtime: Runtime, seconds: float, budget: float) -> list[dict]:
    rows, end = [], time.monotonic() + budget
    for name, active, make, differs in changes(runtime.device.type == "cuda"):
        if time.monotonic() > end:
            rows.append({"change": name, "reason": f"the {budget:.0f} seconds given were over"})
            continue
        torch._dynamo.reset()
        try:
            with active:
                made = make(config, dataclasses.replace(runtime, **differs))
                took = bench.time_step(made.step, made.batch, seconds, measure_steps.LEAST, measure_steps.clock(runtime))
        except Exception as error:  # one change that fails must not lose the others
            rows.append({"change": name, "error": describe_error(error)})
        else:
            rows.append({"change": name, **measure_steps.times(took), "images_per_second": config.batch / took.median})
        row = rows[-1]
        print(f"{name:42}" + (f"{row['images_per_second']:9.1f} images/s" if "seconds" in row else row["error"]),
              flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, help="folder or .json file to write to")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to measure each change")
    parser.add_argument("--budget", type=float, default=440.0, help="seconds after which no change is begun")
    given = parser.parse_args()
    started = time.monotonic()
    runtime = decide(RuntimeConfig(threads=measure_steps.threads()))
    config = measure_steps.settings(runtime.device.type == "cuda", given.batch)
    peak = bench.peak(runtime.device, runtime.precision, clock=measure_steps.clock(runtime))
    rows = measure_steps.measure_engines(config, runtime, (runtime.engine,), peak, given.seconds)
    made = measure_steps.document(config, runtime, peak, started, rows=rows,
                                  ablation=measure(config, runtime, given.seconds, given.budget))
    if given.results:
        path = given.results if given.results.suffix else given.results / measure_steps.name(made, "steps-ablation")
        print(measure_steps.write(made, path))


if __name__ == "__main__":
    main()

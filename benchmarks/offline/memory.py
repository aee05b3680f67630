"""How much memory a training step will take on a GPU, with --memory normal and low, counted without one.

    python -m benchmarks.offline.memory --preset lightweight [--batch B] [--precision fp32] [--engine eager]

As __main__.py does, the step's three functions are compiled on fake tensors of a described H200; with --engine eager
they run on them, operation by operation. Counted are the bytes of weights, optimisers, batch, what forward passes leave
for backward passes, and what each compiled graph needs beyond that by the lifetimes of its buffers. Not counted: what
cuDNN, the allocator's rounding and CUDA itself take. So what is said to fit a card is a prediction. One to five minutes
for each of the two; with --engine eager seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.stand_in import build as stand_in
from tmgan.config import configfile

SCHEMA = 1
SETTINGS = ("normal", "low")
PARTS = {  # of trace.py, and what `tmgan bench` calls them
    "generate forward": "generate",
    "discriminator forward": "discriminator loss",
    "discriminator backward": "discriminator backward",
    "losses of the generator forward": "generator loss",
    "losses of the generator backward": "generator backward",
}


def count(preset: str, batch: int, setting: str, precision: str, engine: str, thin: int | None) -> dict:
    """{"bytes": {part: [left at its end, at its peak]}, "owned": bytes of what stays, "flop": of the three graphs}.

    Args:
        thin: channels of both networks in place of the preset's, for tests.
    """
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    from tmgan.training.memory import AliveBytes

    from . import counting, described

    flop, sizes, names = [0], {}, []
    counter = AliveBytes()

    class Work(TorchDispatchMode):
        """Adds up FLOPs; torch's FlopCounterMode would keep what checkpoints have computed again."""

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            outputs = function(*args, **(kwargs or {}))
            formula = flop_registry.get(function._overloadpacket)
            flop[0] += 0 if formula is None else formula(*args, **(kwargs or {}), out_val=outputs)
            return outputs

    def take(lowered, code: str) -> None:
        nodes = [node for node in lowered.graph.nodes if node.op == "call_function"]
        flop[0] += sum(map(counting.flops, nodes))

    def call(extra: int, outputs) -> None:
        if outputs is None:
            counter.peak = max(counter.peak, counter.alive + extra)
            print(f"# {names[-1]}: {counter.alive:,} bytes and {extra:,} more", file=sys.stderr, flush=True)
            return
        for output in outputs:
            counter.add(output)

    def begin(name: str) -> None:
        if names:
            sizes[names[-1]] = [counter.alive, counter.peak]
        names.append(PARTS.get(name, name))
        counter.peak = counter.alive

    def change(config):
        config = dataclasses.replace(config, memory=setting)
        if thin is None:
            return config
        return dataclasses.replace(config, model=dataclasses.replace(config.model, g_width=thin, d_width=thin))

    owned = [0]

    def around(step, data) -> ExitStack:
        """What is there all the time is counted first; Adam's moments of each trained weight have no tensors yet."""
        for network in (step.generator, step.discriminator, step.ema, step.photo):
            for tensor in (*network.parameters(), *network.buffers()):
                counter.add(tensor)
        for field in dataclasses.fields(data):
            counter.add(getattr(data, field.name))
        trained = (p for adam in (step.adam_g, step.adam_d) for group in adam.param_groups for p in group["params"])
        counter.alive += sum(2 * p.untyped_storage().nbytes() for p in trained)
        owned[0] = counter.peak = counter.alive
        stack = ExitStack()
        for each in (step.dispatch(), Work(), counter) if engine == "eager" else ():
            stack.enter_context(each)
        return stack

    mode = described.install(take, call)
    from .trace import trace  # after the card is described

    trace(preset, batch, False, mode, begin, change, around, precision, engine)
    return {"bytes": {part: sizes[part] for part in PARTS.values()}, "owned": owned[0], "flop": flop[0]}


def document(preset: str, batch: int, precision: str, engine: str, counts: dict[str, dict]) -> dict:
    """What a file benchmarks/results/memory-*.json holds."""
    import torch
    import triton

    from benchmarks import machine

    about = machine.describe("cpu")
    return {
        "schema": SCHEMA,
        "kind": "memory",
        "preset": preset,
        "batch": batch,
        "precision": precision,
        "engine": engine,
        "image_size": configfile.from_preset(preset).model.image_size,
        "compiled_for": "NVIDIA H200",
        "torch": str(torch.__version__),
        "triton": triton.__version__,
        "commit": about["commit"],
        "date": about["date"],
        **counts,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offline.memory", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--preset", default="lightweight", choices=configfile.presets())
    parser.add_argument("--batch", type=int, default=0, help="images per step, 2 or more; 0: the preset's")
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"), help="fp32: of cards without bf16")
    parser.add_argument("--engine", default="compiled", choices=("compiled", "eager"))
    parser.add_argument("--json", type=Path, help="write the counts there")
    parser.add_argument("--thin", type=int, help="channels of both networks in place of the preset's, for tests")
    parser.add_argument("--setting", choices=SETTINGS, help=argparse.SUPPRESS)  # of the process inside the stand-ins
    arguments = parser.parse_args()
    arguments.batch = arguments.batch or configfile.from_preset(arguments.preset).batch
    if stand_in.INSIDE in os.environ:
        counts = count(
            arguments.preset, arguments.batch, arguments.setting, arguments.precision, arguments.engine, arguments.thin
        )
        arguments.json.write_text(json.dumps(counts))
        stand_in.leave()
    if arguments.batch < 2:
        parser.error(f"--batch is {arguments.batch}; batch norm and mismatched pairs need 2 or more")
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        for setting in SETTINGS:
            file = Path(folder) / "counts.json"
            options = [*sys.argv[1:], "--setting", setting, "--json", str(file)]
            if status := stand_in.run_under("benchmarks.offline.memory", options):
                return status
            counts[setting] = json.loads(file.read_text())
    found = document(arguments.preset, arguments.batch, arguments.precision, arguments.engine, counts)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    for setting in SETTINGS:
        print(setting, found[setting])
    return 0


if __name__ == "__main__":
    sys.exit(main())

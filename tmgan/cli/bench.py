"""tmgan bench [--preset P] [--batch B] [--engines E ...] [--memory low] [--profile FILE]"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tmgan.cli.parse import parse
from tmgan.config.settings import Memory, RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure a training step on this machine: images per second by engine, and where time and memory go. Needs no
    data."""

    preset: str = ""
    """Whose networks and method; empty: lightweight on a GPU, quickstart on a CPU."""
    batch: int = 0
    """Images per step; 0: the preset's."""
    engines: tuple[Literal["eager", "compiled", "graphed"], ...] = ()
    """Which engines; none: the one that training would use, and eager."""
    memory: Memory = "normal"
    """As of `tmgan train`: low keeps less and computes more."""
    seconds: float = 5.0
    """How long to measure each engine."""
    profile: Path | None = None
    """Record a few steps instead: write a trace for chrome://tracing to this file, .json or .json.gz, and print the
    largest kernels of each part. Of one engine."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "bench")
    if options.batch == 1 or options.batch < 0:
        raise ValueError(f"--batch is {options.batch}; batch norm and mismatched pairs need 2 or more.")
    from tmgan.config import configfile
    from tmgan.config.runtime import decide
    from tmgan.training import bench
    from tmgan.training.profile import check_file

    runtime = decide(options.runtime)
    for engine in options.engines:  # refuse what cannot run before measuring anything
        decide(dataclasses.replace(options.runtime, engine=engine))
    if options.profile is not None:
        check_file(options.profile)
        if len(options.engines) > 1:
            raise ValueError(f"--profile records one engine, not {' and '.join(options.engines)}; name one.")
    preset = options.preset or ("lightweight" if runtime.device.type == "cuda" else "quickstart")
    config = configfile.from_preset(preset)
    config = dataclasses.replace(config, batch=options.batch or config.batch, memory=options.memory)
    engines: tuple[str, ...] = options.engines or tuple(dict.fromkeys((runtime.engine, "eager")))
    if options.profile is not None:
        if engines[0] == "graphed":
            raise ValueError("--profile shows the parts of a step, and a CUDA graph has none: name --engines compiled.")
        runtime = dataclasses.replace(runtime, engine=engines[0])
    print(
        f"Preset {preset}, batch {config.batch}, {config.model.image_size} pixels, on {runtime.describe()}, "
        "random weights and pictures."
    )
    if options.profile is None:
        lines = bench.report(config, runtime, engines, options.seconds)
    else:
        lines = bench.profile(config, runtime, options.profile)
    for line in lines:
        print(line, flush=True)

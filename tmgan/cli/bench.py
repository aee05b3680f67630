"""tmgan bench [--preset P] [--batch B] [--engines E ...]"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from tmgan.cli.parse import parse
from tmgan.config.settings import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure a training step on this machine: images a second by engine, and where the time goes. Needs no data."""

    preset: str = ""
    """Whose networks and method; empty: lightweight on a GPU, quickstart on a CPU."""
    batch: int = 0
    """Images a step; 0: the preset's."""
    engines: tuple[Literal["eager", "compiled", "graphed"], ...] = ()
    """Which engines; none: the one that training would take, and eager."""
    seconds: float = 5.0
    """How long to measure each engine."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    given = parse(Arguments, arguments, "bench")
    if given.batch == 1 or given.batch < 0:
        raise ValueError(f"--batch is {given.batch}; batch norm and mismatched pairs need 2 or more.")
    from tmgan.config import configfile
    from tmgan.config.runtime import decide
    from tmgan.training.bench import report

    runtime = decide(given.runtime)
    for engine in given.engines:  # refuse what cannot run before measuring anything
        decide(dataclasses.replace(given.runtime, engine=engine))
    preset = given.preset or ("lightweight" if runtime.device.type == "cuda" else "quickstart")
    config = configfile.from_preset(preset)
    config = dataclasses.replace(config, batch=given.batch or config.batch)
    engines = given.engines or tuple(dict.fromkeys((runtime.engine, "eager")))
    print(
        f"Preset {preset}, batch {config.batch}, {config.model.image_size} pixels, on {runtime.describe()}, "
        "random weights and pictures."
    )
    for line in report(config, runtime, engines, given.seconds):
        print(line, flush=True)

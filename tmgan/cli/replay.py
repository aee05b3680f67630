"""tmgan replay RUN [--step N] [--data PACK] [--out FOLDER]"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from tmgan.cli.parse import parse


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Compute a step of a run once more, and say which of its tensors went bad first, or came nearest to it.

    Writes the statistics of every tensor to RUN/replay/step-N.jsonl. The run itself is not changed.
    """

    run: tyro.conf.Positional[Path]
    """Run folder of `tmgan train` or `tmgan damsm`; RUN/encoders of the encoders that a run has trained itself."""
    step: int | None = None
    """Number of the step, from 0; without it the first one that RUN/flight.json says was bad."""
    data: str = ""
    """Pack that the run was trained on, where it was moved since."""
    out: Path | None = None
    """Folder to write to; without it RUN/replay."""


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "replay")
    from tmgan.common.text import printable
    from tmgan.training.replay import replay

    out = options.out or options.run / "replay"
    found = replay(options.run, options.step, options.data, out)
    print(printable(f"{found}\nAll {len(found.tensors):,} tensors: {found.write(out)}"))

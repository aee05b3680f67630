"""tmgan export RUN --published --out DIR"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from tmgan.cli.parse import parse


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write a run's networks as files for other programs."""

    run: tyro.conf.Positional[Path]
    """Run folder of `tmgan train`, `tmgan damsm` or `tmgan import`."""
    out: Path
    """Folder to write to, new or empty."""
    published: bool = False
    """The state dicts that the code of Lightweight GAN and ManiGAN reads; the only form there is yet."""


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "export")
    if not options.published:
        raise ValueError("Say in which form: --published writes the files that the published code reads.")
    from tmgan.common.progress import say
    from tmgan.published.write import export_published

    for path in export_published(options.run, options.out):
        say(str(path))

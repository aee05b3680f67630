"""tmgan data prepare SOURCE PACK"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from tmgan.cli.parse import parse
from tmgan.common.commands import command


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Turn a folder of photos and captions into a pack for training: CUB, COCO, Oxford-102, or one's own.

    A run that was interrupted continues where it stopped.
    """

    source: tyro.conf.Positional[Path]
    """Folder of CUB, COCO or Oxford-102 flowers, or image folder with metadata.jsonl; `tmgan data doctor` checks it."""
    pack: tyro.conf.Positional[Path]
    """Folder to make."""
    image_size: Literal[64, 128, 256] = 256
    """Edge of the training crops; the tiles in the pack are 304/256 as large."""
    placement: Literal["centre", "topleft"] = "centre"
    """Where the square lies in a photo that is not square; topleft as published."""
    workers: int | None = None
    """Processes; without it one per core."""
    skip_bad: bool = False
    """Leave out images that cannot be used, instead of refusing."""


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "data prepare")
    from tmgan.common.progress import say
    from tmgan.data.prepare import prepare

    summary = prepare(
        options.source, options.pack, options.image_size, options.placement, options.workers, skip_bad=options.skip_bad
    )
    if summary.already_prepared:
        left_out = f", {len(summary.skipped):,} were left out" if summary.skipped else ""
        say(f"{summary.pack} is already prepared: {summary.images:,} images{left_out}.")
    else:
        say(
            f"{summary.pack}: {summary.images:,} images ({summary.train:,} train, {summary.test:,} test), "
            f"{summary.captions:,} captions, {summary.words:,} words; "
            f"{summary.cut / max(summary.seconds, 1e-9):,.0f} images/s"
        )
    say(f"Next: {command('train', '--data', summary.pack, '--run', 'RUN')}")

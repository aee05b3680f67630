"""tmgan data prepare SOURCE PACK"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from tmgan.cli.parse import parse


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Turn a CUB folder with captions, or an image folder with a metadata.jsonl, into a pack for training.

    A run that was interrupted continues where it stopped.
    """

    source: tyro.conf.Positional[Path]
    """CUB data folder, or image folder with metadata.jsonl."""
    pack: tyro.conf.Positional[Path]
    """Folder to make."""
    image_size: Literal[64, 128, 256] = 256
    """Edge of the training crops; the tiles kept are 304/256 as large."""
    placement: Literal["centre", "topleft"] = "centre"
    """Where the square lies in a photo that is not square; topleft as published."""
    workers: int | None = None
    """Processes; without it one a core."""
    skip_bad: bool = False
    """Leave out images that cannot be used, instead of refusing."""


def main(arguments: list[str]) -> None:
    given = parse(Arguments, arguments, "data prepare")
    from tmgan.data.prepare import prepare

    made = prepare(given.source, given.pack, given.image_size, given.placement, given.workers, True, given.skip_bad)
    if made.already_prepared:
        print(f"{made.pack} is prepared already: {made.images:,} images.")
    else:
        print(
            f"{made.pack}: {made.images:,} images ({made.train:,} train, {made.test:,} test), {made.captions:,} "
            f"captions, {made.words:,} words; {made.cut / max(made.seconds, 1e-9):,.0f} images/s"
        )
    print(f"Next: tmgan damsm --data {made.pack} --run ENCODERS")

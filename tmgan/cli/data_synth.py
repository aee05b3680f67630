"""tmgan data synth DIR"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from tmgan.cli.parse import parse
from tmgan.common.commands import command
from tmgan.config.settings import IMAGE_SIZES


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Draw birds with captions and true masks, written as a CUB folder."""

    directory: tyro.conf.Positional[Path]
    """Folder to write; a set drawn earlier is replaced, anything else is refused."""
    count: int = 600
    """Birds to draw."""
    seed: int = 0
    """Same seed, same birds."""
    image_size: int = 192
    """Edge of the pictures in pixels."""
    patterns: bool = False
    """Draw parts that are plain, spotted or striped, and say so in the captions: another set of birds."""


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "data synth")
    from tmgan.common.progress import Progress, say
    from tmgan.data.drawn.dataset import write_birds

    show = Progress()
    with show.bar(total=options.count, start=0, unit="birds"):
        write_birds(
            options.directory,
            options.count,
            options.seed,
            options.image_size,
            lambda done, count: show.advance(),
            options.patterns,
        )
    # Half the edge, as in the runs that draw their own birds: a crop of a bird is smaller than the picture.
    size = max((size for size in IMAGE_SIZES if 2 * size <= options.image_size), default=IMAGE_SIZES[0])
    say(
        f"{options.count} birds with captions and masks in {options.directory}\n"
        f"Next: {command('data', 'prepare', options.directory, 'PACK', '--image-size', size)}"
    )

"""tmgan import FILE... --out RUN"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from tmgan.cli.parse import parse
from tmgan.common.commands import command


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Make a run folder of files that Lightweight GAN, ManiGAN or AttnGAN have published, to edit with or train on.

    What a file holds is told from its contents. docs/published.md says which files there are.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """text_encoder*.pth, image_encoder*.pth and captions.pickle; netG*.pth, for ManiGAN's second stage netC*.pth too;
    to train on from them netD*.pth."""
    out: Path
    """Run folder to make."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """random: seeded random numbers in place of VGG16's ImageNet weights, for trying things out."""
    weights_dir: str = ""
    """Folder with third-party weights, searched before TMGAN_WEIGHTS and the torch hub cache."""


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "import")
    if not options.files:
        raise ValueError(
            "Name the files: tmgan import text_encoder.pth image_encoder.pth captions.pickle netG.pth --out RUN"
        )
    from tmgan.common.progress import say
    from tmgan.published.read import import_published

    made = import_published(options.files, options.out, options.weights, options.weights_dir)
    for path, kind in made.files.items():
        say(f"{path}: {kind}")
    for text in made.notes:
        say(f"NOTE: {text}")
    say(f"{made.run}: {made.architecture or 'encoders'}.")
    if made.architecture:
        text = "a bird with a red head and white wings"
        say(f"Next: {command('edit', made.run, 'PHOTO.jpg', '--text', text, '--out', 'edited.png')}")
    else:
        say(f"Next: {command('train', '--data', 'PACK', '--encoders', made.run, '--run', 'RUN')}")

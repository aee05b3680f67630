"""tmgan data masks PACK"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from tmgan.cli.parse import parse
from tmgan.config.settings import RuntimeConfig


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Find the object in every image of a pack with a trained network, for --method.keep-mask.

    A run that was interrupted continues where it stopped.
    """

    pack: tyro.conf.Positional[Path]
    """Pack made by `tmgan data prepare`; the masks are stored in it."""
    provider: Literal["fcn", "clipseg"] = "fcn"
    """fcn: FCN-ResNet101, which knows the classes of Pascal VOC. clipseg: what each image's first caption describes, by
    the CLIPSeg model in --weights-dir (pip install 'tmgan[clip]')."""
    classes: tuple[str, ...] = ("bird",)
    """With fcn: which classes count as the object."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """With fcn: random for seeded random numbers in place of trained weights, for trials; the pack records it."""
    weights_dir: str = ""
    """Folder with third-party weights, searched before TMGAN_WEIGHTS and the torch hub cache."""
    batch: int = 16
    """Images at a time."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    options = parse(Arguments, arguments, "data masks")
    if options.batch < 1:
        raise ValueError(f"--batch is {options.batch}; use 1 or more.")
    from tmgan.common.commands import command
    from tmgan.common.progress import say
    from tmgan.config.runtime import decide
    from tmgan.data.masks import RANDOM_NOTE, agreement, find_masks, open_masks
    from tmgan.data.pack import Pack
    from tmgan.methods.mask_providers import make_provider

    pack, runtime = Pack.open(options.pack), decide(options.runtime)
    provider = make_provider(options.provider, options.classes, options.weights, options.weights_dir, runtime.device)
    summary = find_masks(pack, provider, options.batch)
    if summary.computed:
        rate = summary.computed / max(summary.seconds, 1e-9)
        print(f"{summary.path}: {summary.images:,} masks; {rate:.1f} images/s")
    else:
        print(f"{summary.path} exists already: {summary.images:,} masks.")
    print(f"The object covers {100 * summary.coverage:.1f} % of an image; {summary.empty:,} images show none.")
    masks, random = open_masks(pack, provider.name), options.weights == "random"
    assert masks is not None  # they have just been stored
    ious = agreement(pack, masks, None if random else provider, options.batch)
    if "crops" in ious:
        print(f"IoU with masks found crop by crop: {ious['crops']:.3f}")
    if "dataset" in ious:
        print(f"IoU with the pack's true masks: {ious['dataset']:.3f}")
    if random:
        print(f"NOTE: {RANDOM_NOTE}")
    if summary.empty == summary.images:
        print("No training can use these masks: there is nothing to tell from the ground. Name other --classes.")
        return
    keep = [] if provider.name == "fcn" else ["--method.keep-mask", provider.name]
    flags = ["--data", options.pack, "--encoders", "ENCODERS", "--run", "RUN"]
    say(f"Next: {command('train', '--preset', 'fcn', *keep, *flags)}")

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
    """Find the object in every image of a pack with a trained network, once, for --method.keep-mask.

    A run that was interrupted continues where it stopped.
    """

    pack: tyro.conf.Positional[Path]
    """Pack made by `tmgan data prepare`; the masks are stored in it."""
    provider: Literal["fcn", "clipseg"] = "fcn"
    """fcn: FCN-ResNet101, which knows the classes of Pascal VOC. clipseg: what each image's first caption speaks of, by
    the CLIPSeg model in --weights-dir (pip install 'tmgan[clip]')."""
    classes: tuple[str, ...] = ("bird",)
    """With fcn: which classes are the object."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """With fcn: random for seeded random numbers in place of trained weights, for trials; the pack records it."""
    weights_dir: str = ""
    """Folder with third-party weights, searched before TMGAN_WEIGHTS and the torch hub cache."""
    batch: int = 16
    """Images at a time."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def main(arguments: list[str]) -> None:
    given = parse(Arguments, arguments, "data masks")
    if given.batch < 1:
        raise ValueError(f"--batch is {given.batch}; use 1 or more.")
    from tmgan.common.progress import Progress
    from tmgan.config.runtime import decide
    from tmgan.data.masks import RANDOM_NOTE, agreement, open_masks, write_masks
    from tmgan.data.pack import Pack
    from tmgan.methods.mask_providers import make_provider

    pack, runtime = Pack.open(given.pack), decide(given.runtime)
    provider = make_provider(given.provider, given.classes, given.weights, given.weights_dir, runtime.device)
    show = Progress(visible=True)
    made = write_masks(pack, provider.name, provider.about, provider, given.batch, show)
    if made.computed:
        print(f"{made.path}: {made.images:,} masks; {made.computed / max(made.seconds, 1e-9):.1f} images/s")
    else:
        print(f"{made.path} is there already: {made.images:,} masks.")
    print(f"The object covers {100 * made.coverage:.1f} % of an image; {made.empty:,} images show none.")
    masks, random = open_masks(pack, provider.name), given.weights == "random"
    compared = agreement(pack, masks, None if random else provider, given.batch)
    if "crops" in compared:
        print(f"IoU with masks found crop by crop: {compared['crops']:.3f}")
    if "dataset" in compared:
        print(f"IoU with the pack's true masks: {compared['dataset']:.3f}")
    if random:
        print(f"NOTE: {RANDOM_NOTE}")
    print(
        f"Next: tmgan train --preset fcn {'' if provider.name == 'fcn' else f'--method.keep-mask {provider.name} '}"
        f"--data {given.pack} --encoders ENCODERS --run RUN"
    )

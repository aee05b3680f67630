"""The runs behind the tables: one base, and what each method of the paper changes in it. Nothing else differs between
them, neither first weights nor the order of photos, crops, captions and noise, as all of these follow from the seed.

Table 4 is not of the paper: our editor, and what is left of it without each of its parts. These runs have another base.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tmgan.config import configfile
from tmgan.config.settings import TrainConfig

BASE = "lightweight"
OURS = "ours"
PAPER, OBEDIENCE = (1, 2, 3), 4  # the tables
PreTrained = Literal["dataset", "fcn"]  # the masks in the place of the paper's pre-trained model
Pair = Literal["shared", "hard"]  # of encoders: the baseline's, and those that learn from hard negatives as well

# Drawn birds, small networks, half of the target texts another bird's: with their own alone nothing is edited. No
# keep-mask and no keep_input, which preserve the background by construction: Table I needs a baseline that may change
# it, as Lightweight GAN may.
# perceptual: squared differences of the small encoder's features are about 0.01, of VGG's about 1, so with the
# published weight of 1 nothing would hold the edit to its photo. Of 1, 10, 50 and 200, tried once each on seed 0 for
# the baseline alone, 200 kept most of the photo and obeyed as well.
_REDUCED: dict[str, Any] = {
    "images": 4_800,
    "batch": 16,
    "model": {
        "image_size": 64,
        "g_width": 16,
        "top_width": 8,
        "d_width": 16,
        "affine_dim": 16,
        "residual_blocks": 0,
        "condition_dim": 32,
        "noise_dim": 16,
    },
    "encoder": {"kind": "small", "dim": 64, "word_dim": 64},
    "method": {"mismatched_text_p": 0.5},
    "loss": {"matching": 1.0, "perceptual": 200.0, "kl": 0.0},
    "optim": {"lr_g": 2.0e-3, "lr_d": 1.0e-3, "ema_half_life": 2_000},
    "pretrain": {"images": 12_000, "batch": 32, "lr": 5.0e-3, "dropout": 0.0},
    "output": {"tick_images": 1_000, "sample_images": 4_800, "checkpoint_images": 4_800},
}


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        settings: laid over the base.
        published: only with --as-published.
        d_width_factor, perceptual_factor: times the base's discriminator, and its weight of the perceptual loss.
        after: the variant whose runs these go on from, seed by seed.
        encoders: what these runs see with.
        ours: laid over our presets, quickstart for reduced runs and editor for others, not over the baseline.
        baseline_network: with the baseline's generator and discriminator, and keep_input as in ours.
    """

    name: str
    label: str
    about: str
    settings: dict[str, Any]
    tables: tuple[int, ...] = ()
    published: bool = False
    d_width_factor: int = 1
    perceptual_factor: int = 1
    after: str = ""
    encoders: Pair = "shared"
    ours: bool = False
    baseline_network: bool = False


def variants(pre_trained: PreTrained) -> tuple[Variant, ...]:
    """All rows."""
    keeps = {"fcn": "FCN masks", "dataset": "true masks"}[pre_trained]
    sad9 = {"blur": {"sizes": [9]}}
    return (
        Variant(BASE, "Lightweight GAN", "the baseline", {}, (*PAPER, OBEDIENCE)),
        Variant(
            "histogram",
            "histogram masks",
            "masked MAE, alpha 25, where histogram matching sees no change",
            {"method": {"keep_mask": "histogram"}},
            (1,),
        ),
        Variant(
            "masks",
            keeps,
            f"masked MAE, alpha 25, outside of the bird by {keeps}",
            {"method": {"keep_mask": pre_trained}},
            (1,),
        ),
        Variant(
            "nsl",
            "NSL",
            "naive sharpness loss in G's loss, alpha 1, gamma 0.1",
            {"method": {"sharpness": {"weight": 1.0, "gamma": 0.1}}},
            (2,),
        ),
        Variant(
            "gm",
            "GM",
            "gradient times 1.5 on sharp regions",
            {"method": {"gradient": {"mode": "regions", "gain": 1.5}}},
            (2,),
        ),
        Variant("sad5", "SAD 5", "blurred photos are fake for D, box of 5", {"method": {"blur": {"sizes": [5]}}}, (2,)),
        Variant("sad9", "SAD 9", "blurred photos are fake for D, box of 9", {"method": sad9}, (2,)),
        Variant(
            "sad9-wide",
            "SAD 9 with larger D",
            "as above; D twice as wide, which the paper suggests",
            {"method": sad9},
            (2,),
            d_width_factor=2,
        ),
        Variant(
            "manigan-main",
            "ManiGAN, main module",
            "ManiGAN's first stage: three scales, each with a discriminator",
            {"model": {"architecture": "manigan"}},
            (3,),
            perceptual_factor=2,
        ),
        Variant(
            "manigan",
            "ManiGAN",
            "its second stage, the detail correction, trained as long again on the main module",
            {"model": {"architecture": "manigan-dcm"}, "loss": {"kl": 0.0, "difference": 1.0}},
            (3,),
            perceptual_factor=0,
            after="manigan-main",
        ),
        Variant("combined", "combined", f"{keeps} and SAD 9", {"method": {"keep_mask": pre_trained, **sad9}}, (1, 3)),
        # As the code ran. A threshold that no difference exceeds is what 32.5 is for images in [-1, 1].
        Variant(
            "histogram-published",
            "histogram masks as published",
            "masks are 1 everywhere: plain MAE, alpha 25",
            {"method": {"keep_mask": "histogram", "histogram": {"threshold": 254.9}}},
            (1,),
            True,
        ),
        Variant(
            "nsl-formula",
            "NSL with published formula",
            "log tanh over sharp regions only, gamma 1; in G's loss, where its code did not have it",
            {"method": {"sharpness": {"weight": 1.0, "gamma": 1.0, "region": "sharp"}}},
            (2,),
            True,
        ),
        Variant(
            "gm-formula",
            "GM with published formula",
            "gradient times 1 + tanh(sharpness); on the image, where its code did not have it",
            {"method": {"gradient": {"mode": "smooth"}}},
            (2,),
            True,
        ),
        Variant(
            "sad-published",
            "SAD as published",
            "9 pixels whatever is asked for, grey, zeros beyond the border",
            {"method": {"blur": {"sizes": [9], "kind": "grey", "border": "zeros"}}},
            (2,),
            True,
        ),
        *_ours(pre_trained),
    )


def _ours(pre_trained: PreTrained) -> tuple[Variant, ...]:
    """Our editor, and what is left of it without each of its parts. Restored photos say what the right edit is; without
    them the matching losses have to."""
    masks = {"keep_mask": pre_trained}

    def row(
        name: str, label: str, about: str, encoders: Pair = "hard", network: bool = False, **settings: Any
    ) -> Variant:
        settings["method"] = masks | settings.get("method", {})
        return Variant(
            name, label, about, settings, (OBEDIENCE,), encoders=encoders, ours=True, baseline_network=network
        )

    def unrestored(**texts: float) -> dict[str, Any]:
        return {"method": {"restore": {"p": 0.0}, **texts}, "loss": {"matching": 1.0}}

    return (
        row(OURS, "ours", "our network; restores recoloured photos, with encoders that learnt from hard negatives"),
        row("ours-encoders", "ours with the baseline's encoders", "encoders without hard negatives", encoders="shared"),
        row(
            "ours-network",
            "ours with Lightweight GAN's network",
            "the baseline's network with keep_input",
            network=True,
        ),
        row(
            "ours-mismatched",
            "ours with mismatched captions in place of restoring",
            "half of the target texts are another photo's; matching losses, weight 1",
            **unrestored(mismatched_text_p=0.5),
        ),
        row(
            "ours-swaps",
            "ours with swapped captions in place of restoring",
            "half of the target texts are the photo's own with an attribute swapped; matching losses, weight 1",
            **unrestored(swapped_text_p=0.5),
        ),
    )


def select(
    everything: tuple[Variant, ...], tables: Sequence[int], published: bool, one_pair: bool = False
) -> list[Variant]:
    """The variants that these tables need.

    Args:
        one_pair: all runs have the same encoders: without the row that differs from ours in nothing else.
    """
    return [
        v
        for v in everything
        if set(v.tables) & set(tables)
        and (published or not v.published)
        and not (one_pair and v.ours and v.encoders == "shared")
    ]


def baseline(reduced: bool) -> TrainConfig:
    """The settings that the paper's runs, and the encoders that all share, begin with."""
    config = configfile.from_preset("lightweight")
    return configfile.merge(config, _REDUCED, "tables") if reduced else config


def ours(reduced: bool) -> TrainConfig:
    """The settings that our runs, and encoders with hard negatives, begin with. They see as many images as others."""
    config = configfile.from_preset("quickstart" if reduced else "editor")
    return dataclasses.replace(config, images=baseline(reduced).images)


def configuration(variant: Variant, reduced: bool, **overrides: Any) -> TrainConfig:
    """The settings of one run.

    Args:
        overrides: of the top level, such as data, run, encoders, images, seed, runtime.
    """
    base = ours(reduced) if variant.ours else baseline(reduced)
    if variant.baseline_network:
        base = dataclasses.replace(base, model=dataclasses.replace(baseline(reduced).model, keep_input=True))
    factors = {
        "model": {"d_width": variant.d_width_factor * base.model.d_width},
        "loss": {"perceptual": variant.perceptual_factor * base.loss.perceptual},
    }
    for settings in (variant.settings, factors, overrides):
        base = configfile.merge(base, settings, variant.name)
    return base

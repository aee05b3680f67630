"""What an evaluation measures and how. No torch here: the command line parses straight into these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

METRICS = (
    "colour_accuracy",
    "colour_words",
    "pattern_accuracy",
    "mask_score",
    "sharpness",
    "checkerboard",
    "preserved",
    "mp_damsm",
    "rmp_damsm",
    "r_precision",
    "fid",
    "kid",
    "inception_score",
    "lpips",
    "clip",
)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is measured and how. Two evaluations are comparable when pack and protocol are the same."""

    metrics: tuple[str, ...] = ()
    """What to measure; none: everything that can be measured here."""
    count: int = 1000
    """Photos to edit, at most; fewer are the first of more."""
    seed: int = 0
    """Chooses photos, their captions, and the generator's noise."""
    split: Literal["train", "test"] = "test"
    """test: photos the model has not seen. train: as in the paper."""
    captions: Literal["other", "own"] = "other"
    """other: each photo is edited by a caption of a photo of another class. own: by its own, as in the paper."""
    masks: tuple[str, ...] = ()
    """Masks of what should stay to score under (dataset, histogram, fcn, clipseg); none: all that the pack has."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """Of the metrics' own networks. random: seeded random numbers, for trying things out; every number then says so."""
    weights_dir: str = ""
    """Folder with third-party weights, searched before TMGAN_WEIGHTS and the torch hub cache."""
    clip: str = ""
    """Folder of a CLIP model in the format of transformers; none: no CLIP similarity."""
    batch: int = 64
    """Photos at a time."""

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in METRICS:
                raise ValueError(f"There is no metric {name!r}; use {', '.join(METRICS)}.")
        for name in ("count", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use 1 or more.")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; use 0 to 2**63 - 1.")

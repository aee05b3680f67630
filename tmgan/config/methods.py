"""Settings of the training methods: the paper's, and ours. `settings.py` has the others.

The texts below the fields are what `--help` shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tmgan.config.checks import require, require_at_least

# Networks that find the object (methods/mask_providers.py). Literals repeat the names, for typing and --help.
MASK_PROVIDERS = ("fcn", "clipseg")


@dataclass(frozen=True, kw_only=True)
class HistogramConfig:
    """The mask of `keep_mask: histogram`: where edit and histogram-matched photo differ little."""

    threshold: float = 32.5
    """A pixel is changed where the blurred difference is above this, in levels of 255."""
    ceiling: float = 255.0
    """... and not above this. 255: no ceiling; the published code takes 160."""
    adaptive: bool = False
    """Each image's own threshold, by Otsu's method, in place of `threshold` (not in the paper)."""

    def __post_init__(self) -> None:
        require(
            0 <= self.threshold < self.ceiling,
            f"method.histogram: threshold {self.threshold} must be at least 0 and below the ceiling {self.ceiling}.",
        )


@dataclass(frozen=True, kw_only=True)
class SharpnessLossConfig:
    """Naive sharpness loss (NSL), added to the generator's loss."""

    weight: float = 0.0
    """Its weight; 0 switches it off. The paper's alpha is 1."""
    gamma: float = 0.1
    """Sensitivity: sharpness counts as tanh(gamma * |Laplacian|), for an image in [-1, 1]."""
    labels: Literal["generated", "original"] = "generated"
    """Whose sharp regions should be sharp: the edit's own, as in the paper, or the photo's."""
    region: Literal["all", "sharp"] = "all"
    """all: cross entropy over every pixel. sharp: over the sharp regions only, as published (with gamma 1)."""

    def __post_init__(self) -> None:
        require_at_least(self, "method.sharpness.", 0, "weight")
        require(self.gamma > 0, f"method.sharpness.gamma is {self.gamma}; use more than 0.")


@dataclass(frozen=True, kw_only=True)
class GradientConfig:
    """Gradient manipulation (GM): stronger gradients where the generated image is sharp."""

    mode: Literal["none", "regions", "smooth"] = "none"
    """regions: times `gain` on sharp regions, as in the paper. smooth: times 1 + tanh(sharpness), as published."""
    gain: float = 1.5
    """The paper's k, for mode regions."""
    losses: Literal["all", "text"] = "all"
    """all: right after the generator, for every loss of the image. text: for adversarial and matching losses only."""

    def __post_init__(self) -> None:
        require_at_least(self, "method.gradient.", 0, "gain")


@dataclass(frozen=True, kw_only=True)
class BlurConfig:
    """Sharpness-aware discriminator (SAD): blurred photos are shown to it as fake."""

    sizes: tuple[int, ...] = ()
    """Edges of the blur in pixels, odd, 3 to 15; with several, the plan draws one per photo. None: SAD is off."""
    kind: Literal["box", "gaussian", "grey"] = "box"
    """box: each channel by itself. gaussian: with one size. grey: the grey box blur of the published code."""
    border: Literal["replicate", "reflect", "zeros"] = "replicate"
    """What lies beyond the photo's edge. zeros, as published, frames fakes only: a clue other than sharpness."""
    heads: Literal["conditional", "both"] = "conditional"
    """Which heads of the discriminator judge them. both: the mean of the two losses."""
    skip_below: float = 0.0
    """Leave out photos that are blurred already: whose sharpness score, in levels of 255, is below this."""

    def __post_init__(self) -> None:
        for size in self.sizes:
            require(3 <= size <= 15 and size % 2 == 1, f"method.blur.sizes holds {size}; use odd numbers, 3 to 15.")
        require(
            self.kind != "gaussian" or len(self.sizes) <= 1,
            f"method.blur.kind gaussian takes one size, and sizes is {list(self.sizes)}.",
        )
        require_at_least(self, "method.blur.", 0, "skip_below")


@dataclass(frozen=True, kw_only=True)
class RestoreConfig:
    """Restoring (not in the paper): the generator has to give a photo back whose object was recoloured."""

    p: float = 0.0
    """Probability that a photo is recoloured and has to be restored by its own caption. Needs masks of the object."""
    weight: float = 10.0
    """Weight of the mean absolute error inside the object, where a photo is edited by its own caption."""
    palette: float = 0.0
    """Weight of the difference of the object's colours, wherever in it they lie. Without it, edits are timid where
    texts do not tell the part."""
    swap: float = 0.0
    """Share of the restored photos that first have a colour swapped, in the photo as in its caption: the kind of an
    object then does not tell its colours."""

    def __post_init__(self) -> None:
        require(0.0 <= self.p <= 1.0, f"method.restore.p is {self.p}; it is a probability, use 0 to 1.")
        require(0.0 <= self.swap <= 1.0, f"method.restore.swap is {self.swap}; it is a share, use 0 to 1.")
        require_at_least(self, "method.restore.", 0, "weight", "palette")


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Training methods beyond the published losses of Lightweight GAN and ManiGAN: the paper's, and ours."""

    mismatched_text_p: float = 0.0
    """Probability that a photo's target text is another photo's caption. 0: published; 0.5: edits follow the text."""
    swapped_text_p: float = 0.0
    """Probability that it is the photo's own caption, one attribute replaced or two exchanged (not in the paper)."""
    wrong_pairs: Literal["other_class", "published"] = "other_class"
    """Whose text the discriminator sees as the wrong one for a photo: the next photo's, unless of the same class.
    published: the next one's in a batch sorted by the length of the captions, even of the same class."""
    word_correlation: bool = False
    """Also log the word-level term that the published code, Lightweight GAN's or ManiGAN's, adds to D's loss, without a
    gradient."""
    keep_mask: Literal["none", "dataset", "histogram", "fcn", "clipseg", "own"] = "none"
    """Where the text-irrelevant region comes from: nowhere, the pack's true masks, histogram matching, a network's
    masks that `tmgan data masks` has stored in the pack, or those of your own provider (examples/mask_provider.py)."""
    mae_alpha: float = 25.0
    """Weight of the masked mean absolute error inside the keep-mask."""
    keep_weight: float = 5.0
    """With model.keep_input: weight of the cross entropy between the mask it learns and the keep-mask."""
    restore: RestoreConfig = field(default_factory=RestoreConfig)
    histogram: HistogramConfig = field(default_factory=HistogramConfig)
    sharpness: SharpnessLossConfig = field(default_factory=SharpnessLossConfig)
    gradient: GradientConfig = field(default_factory=GradientConfig)
    blur: BlurConfig = field(default_factory=BlurConfig)

    def __post_init__(self) -> None:
        require(
            0.0 <= self.mismatched_text_p <= 1.0,
            f"method.mismatched_text_p is {self.mismatched_text_p}; it is a probability, use 0 to 1.",
        )
        require(
            0.0 <= self.swapped_text_p <= 1.0,
            f"method.swapped_text_p is {self.swapped_text_p}; it is a probability, use 0 to 1.",
        )
        total = self.mismatched_text_p + self.swapped_text_p + self.restore.p
        require(
            total <= 1.0 + 1e-9,
            f"method.mismatched_text_p, method.swapped_text_p and method.restore.p add up to {total:g}; each photo is "
            "one of these, so use 1 or less in all.",
        )
        require(
            self.restore.p == 0 or self.stored_masks != "",
            "method.restore.p recolours the object, and needs its mask: give method.keep_mask dataset, "
            f"{' or '.join(MASK_PROVIDERS)}, or do not restore (--method.restore.p 0).",
        )
        require(
            self.restore.p == 0 or not self.word_correlation,
            "method.word_correlation compares a photo's own words with its features, but with method.restore.p the "
            "features are of the recoloured photo. Leave one of them out.",
        )
        require_at_least(self, "method.", 0, "mae_alpha", "keep_weight")

    @property
    def stored_masks(self) -> str:
        """Name of the pack's masks that a batch must include, "" for none."""
        return self.keep_mask if self.keep_mask not in ("none", "histogram") else ""

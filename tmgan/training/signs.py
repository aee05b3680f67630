"""Signs of life: numbers of each step that tell a collapse of the training, and the warnings about it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

# Not losses, so not in the status line; stats.jsonl, TensorBoard and the flight record have them.
SIGNS = ("changed", "contrast", "variety", "grad_d", "grad_g", "grad")

_COPY = 0.5  # levels
_CONSTANT = 0.05
_CERTAIN = 0.05  # of the loss of guessing
_EXPLODES = 50
_TICKS = 2  # in a row: networks begin with grey pictures


@torch.no_grad()
def life_signs(photos: Tensor, edits: Tensor) -> dict[str, Tensor]:
    """How a batch of edits differs from its photos, and the edits among themselves.

    Args:
        photos: (B, 3, S, S) in [-1, 1], what the generator was given.
        edits: (B, 3, S, S) in [-1, 1].

    Returns:
        Scalars on the device, float32. changed: mean absolute difference, in levels of 255. contrast: standard
        deviation over the pixels of an edit, and variety: of each pixel over the batch, both as shares of the photos'.
    """
    photos, edits = photos.detach().float(), edits.detach().float()
    signs = {"changed": (edits - photos).abs().mean() * 127.5}
    for name, dim in (("contrast", (2, 3)), ("variety", (0,))):
        own, given = (x.var(dim, correction=0).mean().sqrt() for x in (edits, photos))
        signs[name] = torch.where(given > 0, own / given, torch.ones_like(own))  # alike photos have alike edits
    return signs


class CollapseWatch:
    """Says when a training collapses, and when it has recovered."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}  # ticks in a row, by what they show
        self._said: set[str] = set()

    def look(self, means: Mapping[str, float]) -> list[str]:
        """Look at the means of one tick.

        Returns:
            What to say: a sentence for every collapse that begins or ends.
        """
        lines = []
        for name, (happens, text) in self._collapses(means).items():
            self._seen[name] = self._seen.get(name, 0) + 1 if happens else 0
            if self._seen[name] >= _TICKS and name not in self._said:
                self._said.add(name)
                lines.append(f"WARNING: {text}")
            elif not happens and name in self._said:
                self._said.remove(name)
                lines.append(f"NOTE: {name} is over.")
        return lines

    def _collapses(self, means: Mapping[str, float]) -> dict[str, tuple[bool, str]]:
        """Which there may be: whether it happens, and what to say of it."""
        found = {}
        if "d" in means:
            # Guessing costs ln 2 per judgement; half of two on photos and a third of three on edits and wrong texts, at
            # every scale, and one on blurred photos.
            scales = 1 + sum(name.removeprefix("d_").isdigit() for name in means)
            guess = math.log(2) * (2 * scales + ("d_blurred" in means))
            found["a discriminator that wins"] = (
                means["d"] < _CERTAIN * guess,
                f"the discriminator wins: its loss is {means['d']:.3f}, and guessing would cost {guess:.2f}. Edits "
                "learn nothing from a judge that is always certain. Lower --optim.lr-d; with few photos it may know "
                "them by heart, and more would help.",
            )
            found["a discriminator that explodes"] = (
                means["d"] > _EXPLODES * guess,
                f"the discriminator's loss is {means['d']:,.0f}, and guessing would cost {guess:.2f}: it explodes. "
                "Lower --optim.lr-d and --optim.lr-g, and go back to an earlier checkpoint.",
            )
        if "changed" in means:
            found["copying"] = (
                means["changed"] < _COPY,
                f"edits copy their photos: they differ by {means['changed']:.2f} of 255 levels. Less weight on what "
                "keeps the photo (--method.mae-alpha, --loss.perceptual) or more on the text (--loss.matching).",
            )
        if "contrast" in means:
            found["a constant picture"] = (
                min(means["contrast"], means["variety"]) < _CONSTANT,
                f"edits are a constant picture: their contrast is {means['contrast']:.1%} of the photos', their "
                f"variety {means['variety']:.1%}. The generator has collapsed: lower --optim.lr-g, and go back to an "
                "earlier checkpoint.",
            )
        return found

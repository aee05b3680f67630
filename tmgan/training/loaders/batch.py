"""What a training step takes: images and texts of one plan, on the device; and what all loaders share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor

from tmgan.data.pack import Pack
from tmgan.training.plan import CaptionTable, Plan


@dataclass(frozen=True)
class Batch:
    """B rows on the training device. Text comes twice: the photo's own, and the target the edit must obey."""

    images: Tensor  # (B, 3, S, S) float32 in [-1, 1], channels_last
    keep: Tensor | None  # (B, 1, S, S) float32, 1 = text-irrelevant (background); None without masks
    class_ids: Tensor  # (B,) int64
    captions: Tensor  # (B,) int64, row of the caption table: the photo's own text
    tokens: Tensor  # (B, L) int64, zero padded
    lengths: Tensor  # (B,) int64
    target_class_ids: Tensor  # (B,) int64: class of the image the target text belongs to
    target_captions: Tensor  # (B,) int64
    target_tokens: Tensor  # (B, L) int64
    target_lengths: Tensor  # (B,) int64
    mismatched: Tensor  # (B,) bool: the target text is not the photo's own: another image's, or changed
    noise: Tensor  # (B, Z) float32
    eps: Tensor  # (B, C) float32
    blur_sizes: Tensor  # (B,) int64, edge of the blur of each photo that the discriminator sees
    word_labels: Tensor | None = None  # (B, L) bool, nouns and adjectives of the photo's own text; None: not known
    swap_tokens: Tensor | None = None  # (B, K, L) int64: swaps of the photo's own text, or itself where it has none
    restore: Tensor | None = None  # (B,) bool: the generator gets the photo recoloured; None: never
    recolour: Tensor | None = None  # (B, DRAWS) float32 in [0, 1], see methods/recolour.py

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with `function` applied to every column that it has."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: function(column) for name, column in columns.items() if column is not None})


class Loader(Protocol):
    """Loads the Batch of any step. It has no state that a checkpoint would need: the plan is a function of the step.

    Attributes:
        pixels: what the images equal to the bit: "tiles", those of the pack, or the loader's own.
    """

    pixels: str

    def __call__(self, step: int) -> Batch:
        """The batch of `step`, on the device. Steps in order are the fast case."""

    def close(self) -> None:
        """End what runs beside this process."""


class Columns:
    """All columns of a Batch except its pictures: every loader has the same ones, made the same way."""

    def __init__(self, pack: Pack, table: CaptionTable, device: torch.device):
        self.device = device
        self.tokens, self.lengths = table.tokens.to(device), table.lengths.to(device)
        self.labels = table.labels.to(device)
        self.class_ids = pack.class_ids.to(device)

    def batch(self, plan: Plan, images: Tensor, keep: Tensor | None) -> Batch:
        """The Batch of `plan` with these pictures; see Batch for their shapes."""
        index, target, caption, target_caption, noise, eps, blur_sizes, swaps = (
            tensor.to(self.device, non_blocking=True)
            for tensor in (
                plan.index,
                plan.target_index,
                plan.caption,
                plan.target_caption,
                plan.noise,
                plan.eps,
                plan.blur_sizes,
                plan.swaps,
            )
        )
        restore, recolour = (
            None if tensor is None else tensor.to(self.device, non_blocking=True)
            for tensor in (plan.restore, plan.recolour)
        )
        return Batch(
            images,
            keep,
            self.class_ids[index],
            caption,
            self.tokens[caption],
            self.lengths[caption],
            self.class_ids[target],
            target_caption,
            self.tokens[target_caption],
            self.lengths[target_caption],
            target_caption != caption,
            noise,
            eps,
            blur_sizes,
            self.labels[caption],
            self.tokens[swaps] if swaps.shape[1] else None,
            restore,
            recolour,
        )

"""What a training step is given: images and texts of one plan, on the device."""
from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B rows on the training device. Text comes twice: the photo's own, and the target the edit must obey."""

    images: Tensor               # (B, 3, S, S) float32 in [-1, 1], channels_last
    keep: Tensor | None          # (B, 1, S, S) float32, 1 = text-irrelevant (background); None without masks
    class_ids: Tensor            # (B,) int64
    tokens: Tensor               # (B, L) int64, zero padded
    lengths: Tensor              # (B,) int64
    target_class_ids: Tensor     # (B,) int64: class of the image the target text belongs to
    target_tokens: Tensor        # (B, L) int64
    target_lengths: Tensor       # (B,) int64
    mismatched: Tensor           # (B,) bool: the target text is another image's
    noise: Tensor                # (B, Z) float32
    eps: Tensor                  # (B, C) float32
    blur_sizes: Tensor           # (B,) int64, edge of the blur of each photo that the discriminator is shown

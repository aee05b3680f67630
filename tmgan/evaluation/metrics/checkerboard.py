"""Is the fine detail locked to a grid? Upsampling leaves patterns of 2, 4 or 8 pixels that no photo has.

Fine detail is what is left of the channel mean when its local mean is taken away, over local contrast (the MSCN
coefficients of BRISQUE: Mittal, Moorthy and Bovik, IEEE TIP 2012; here with seven binomial taps), so that the few
strong edges of an image do not hide a pattern in all the rest. A grid shows in one of two ways:

    pattern   the coefficients have another mean at some places: transposed convolutions whose kernels overlap unevenly
    blocks    the sizes of their steps to the right and downwards have: pixels that are copies of each other

Of each, the share of variance that the position modulo 8 explains, less what chance explains (adjusted R squared);
modulo 8 covers 2 and 4. The larger of the two is the image's number. Photos have 0 but for noise, which falls with the
number of pixels; photos that were JPEG files of this very size may have more, so read it beside theirs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tmgan.evaluation.metrics.edits import Edits
from tmgan.evaluation.metrics.measure import Measure
from tmgan.evaluation.metrics.per_image import PerImage

PERIOD = 8
_TAPS = (1, 6, 15, 20, 15, 6, 1)


def checkerboard(images: Tensor) -> Tensor:
    """images (B, C, H, W) in [-1, 1], H and W at least 30 -> (B,) float32, at most 1; below 0 by chance only."""
    fine = _fine_detail(images.float().mean(1, keepdim=True) * 127.5)
    here = fine[..., :-1, :-1]
    steps = torch.cat([fine[..., :-1, 1:] - here, fine[..., 1:, :-1] - here], 1).abs()
    return torch.maximum(_explained(fine), _explained(steps))


def _fine_detail(grey: Tensor) -> Tensor:
    """(B, 1, H, W) in levels -> (B, 1, H - 6, W - 6)."""
    mean = _blur(grey)
    contrast = (_blur(grey.square()) - mean.square()).clamp(min=0).sqrt()
    edge = len(_TAPS) // 2
    return (grey[..., edge:-edge, edge:-edge] - mean) / (contrast + 1)  # one level: flat areas have no detail


def _blur(images: Tensor) -> Tensor:
    # Sums, not a convolution: cuDNN's may be computed in TF32, which leaves nothing of the contrast.
    for dim in (2, 3):
        size = images.shape[dim] - len(_TAPS) + 1
        terms = (tap / sum(_TAPS) * images.narrow(dim, k, size) for k, tap in enumerate(_TAPS))
        images = sum(terms, images.new_zeros(()))
    return images


def _explained(signal: Tensor) -> Tensor:
    """(B, K, H, W) -> (B,): adjusted share of the variance that the position modulo the period explains."""
    high, wide = (size // PERIOD * PERIOD for size in signal.shape[2:])
    signal = signal[..., :high, :wide]
    signal = signal - signal.mean((2, 3), keepdim=True)
    phases = signal.unflatten(3, (-1, PERIOD)).unflatten(2, (-1, PERIOD)).mean((2, 4))
    total = signal.square().mean((1, 2, 3))
    share = phases.square().mean((1, 2, 3)) / total.clamp(min=torch.finfo(total.dtype).tiny)
    chance = (PERIOD**2 - 1) / (high * wide - 1)
    return ((share - chance) / (1 - chance)).masked_fill(total == 0, 0)


class Checkerboard(PerImage):
    """checkerboard of the edits, and checkerboard_photo for comparison."""

    def of_batch(self, batch: Edits) -> dict[str, Tensor]:
        return {"checkerboard": checkerboard(batch.edits), "checkerboard_photo": checkerboard(batch.photos)}

    def measure(self, name: str, values: list[float]) -> Measure:
        return Measure.of(values, unit="of the fine detail", better="lower" if name == "checkerboard" else "")

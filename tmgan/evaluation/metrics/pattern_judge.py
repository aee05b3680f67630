"""Is a part of a bird plain, spotted or striped? Judged by the luminance inside its true mask, whatever its colours.

Spots and stripes are fine and full of contrast, so the luminance of a part that has them is steep; shading and a few
feathers are not. On stripes its gradient has one direction, on spots it has all: the coherence of the structure tensor
(Bigün and Granlund, Optimal orientation detection of linear symmetry, 1987) tells them apart. The thresholds were set
on 400 drawn birds of seed 101 at 64 pixels, where a stripe and the next are 5 to 6 pixels apart; of the 1,440 parts of
480 birds of seeds 102 and 103 three are taken for others. Pictures of other sizes are brought to 64 pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tmgan.data.palette import PATTERNS

_SIZE = 64
_STEEP = 14.5  # root of the mean squared gradient, in levels of 255 per pixel, from which on a part has a pattern
_COHERENT = 0.5  # coherence, in 0..1, from which on a pattern is striped
_LUMINANCE = (0.299, 0.587, 0.114)


def judge(images: Tensor, masks: Tensor) -> Tensor:
    """The pattern of each part.

    Args:
        images: (n, 3, S, S) in [-1, 1].
        masks: (n, parts, S, S) bool.

    Returns:
        (n, parts) int64 numbers of PATTERNS, -1 for a part of which too little can be seen to tell.
    """
    if images.shape[-1] != _SIZE:
        images = functional.interpolate(images, (_SIZE, _SIZE), mode="area")
        masks = functional.interpolate(masks.float(), (_SIZE, _SIZE), mode="area") > 0.5
    steepness, coherence = _gradients(images, masks)
    pattern = torch.where(coherence >= _COHERENT, PATTERNS.index("striped"), PATTERNS.index("spotted"))
    pattern = torch.where(steepness < _STEEP, PATTERNS.index("plain"), pattern)
    return pattern.masked_fill(steepness.isnan(), -1)


def _gradients(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Steepness and coherence (n, parts) of each part; NaN where the mask has no pixel with all its neighbours."""
    inside = masks.float()
    parts = inside.shape[1]
    luminance = torch.einsum("bchw,c->bhw", (images.float() + 1) * 127.5, images.new_tensor(_LUMINANCE).float())
    # Smoothed by the part's own pixels, so that grit is no pattern and what is beyond its border does not count.
    line = inside.new_tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(parts, 1, 3, 3)
    weight = functional.conv2d(inside, kernel, padding=1, groups=parts)
    smooth = functional.conv2d(luminance[:, None] * inside, kernel, padding=1, groups=parts) / weight.clamp(min=1e-6)
    known = functional.pad(inside, (1, 1, 1, 1))
    left, right, above, below = _neighbours(known)
    use = inside * left * right * above * below
    left, right, above, below = _neighbours(functional.pad(smooth, (1, 1, 1, 1)))
    x, y = (right - left) / 2, (below - above) / 2
    xx, yy, xy = ((use * product).sum((2, 3)) / use.sum((2, 3)) for product in (x * x, y * y, x * y))
    coherence = ((xx - yy).square() + 4 * xy.square()).sqrt() / (xx + yy).clamp(min=1e-6)
    return (xx + yy).sqrt(), coherence


def _neighbours(padded: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The left, right, upper and lower neighbour of each pixel of a tensor that is padded by one pixel."""
    rows, columns = padded[:, :, 1:-1], padded[..., 1:-1]
    return rows[..., :-2], rows[..., 2:], columns[:, :, :-2], columns[:, :, 2:]

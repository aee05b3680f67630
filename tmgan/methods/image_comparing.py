"""Image comparing: which region the text does not mention, and so should stay as it was.

Source: section II.B of the paper.
"""

import torch
from torch import Tensor

from tmgan.config.methods import MethodConfig
from tmgan_kernels import change_mask, gaussian_blur, match_histogram
from tmgan_kernels.change_mask import dilate_eager, erode_eager

_LEAST = 8  # levels of 255: smallest adaptive threshold


def keep_mask(method: MethodConfig, photo: Tensor, edit: Tensor, batch_keep: Tensor | None) -> Tensor | None:
    """(B, 1, S, S), 1 where edit should equal photo; None if nothing has to be kept.

    Args:
        photo: (B, 3, S, S) in [-1, 1], from 8-bit pictures.
        edit: the same shape; a constant here.
        batch_keep: (B, 1, S, S) keep-masks that came with the batch, for masks that are stored in the pack.
    """
    if method.keep_mask == "none":
        return None
    if method.stored_masks:
        return batch_keep
    # The images are mapped to 0-255 first. As published they are not, which makes every mask 1 everywhere.
    histogram = method.histogram
    ceiling = histogram.ceiling if histogram.ceiling < 255 else None
    if histogram.adaptive:
        return adaptive_change_mask(photo, edit, ceiling)
    return change_mask(photo, edit.detach(), threshold=histogram.threshold, ceiling=ceiling, eight_bit=True)


@torch.no_grad()
def adaptive_change_mask(photo: Tensor, edit: Tensor, ceiling: float | None = None) -> Tensor:
    """`change_mask` with Otsu's threshold of each image's difference from its photo, for edits of any contrast.

    Not in the paper, which names its one threshold as a limitation. Arguments and result are as for `change_mask`;
    photo comes from an 8-bit picture. The threshold counts whole levels, and is at least 8 of 255: an unedited image
    differs by less, and Otsu's method always divides.
    """
    reference = match_histogram(photo, edit, quantize=True, eight_bit=True)
    difference = gaussian_blur((reference - edit.to(reference.dtype)) * 127.5, 5, 1.0, "reflect").abs()
    levels = difference.clamp(max=255).long()
    threshold = otsu_threshold(levels.amax(1).flatten(1)).clamp(min=_LEAST).view(-1, 1, 1, 1)
    change = levels > threshold
    if ceiling is not None:
        change &= difference <= ceiling
    return ~dilate_eager(erode_eager(change.any(1, keepdim=True)))


def otsu_threshold(levels: Tensor) -> Tensor:
    """Otsu's threshold (1979) of each row: the means of the values up to it and above it are farthest apart.

    Args:
        levels: (B, N) int64, 0 to 255.

    Returns:
        (B,) int64, the lowest of equally good levels.
    """
    rows = torch.arange(len(levels), device=levels.device)[:, None]
    counts = torch.zeros(len(levels) * 256, dtype=torch.int64, device=levels.device)
    counts.index_add_(0, (256 * rows + levels).flatten(), torch.ones_like(levels).flatten())
    share = counts.view(-1, 256).double() / levels.shape[1]
    below, weighted = share.cumsum(1), (share * torch.arange(256, device=levels.device)).cumsum(1)
    apart = (weighted[:, -1:] * below - weighted).square() / (below * (1 - below)).clamp(min=1e-12)
    return apart.argmax(1)

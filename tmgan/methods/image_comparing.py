"""Image comparing: which region the text does not speak of, and so should stay as it was.

Source: section II.B of the paper.
"""

from torch import Tensor

from tmgan.config import MethodConfig
from tmgan_kernels import change_mask


def keep_mask(method: MethodConfig, photo: Tensor, edit: Tensor, known: Tensor | None) -> Tensor | None:
    """(B, 1, S, S), 1 where edit should equal photo; None if nothing is asked to be kept.

    Args:
        photo: (B, 3, S, S) in [-1, 1], from 8-bit pictures.
        edit: the same shape; a constant here.
        known: (B, 1, S, S) keep-masks that came with the batch, for masks that are stored in the pack.
    """
    if method.keep_mask == "none":
        return None
    if method.stored_masks:
        return known
    # The images are mapped to 0-255 first. As published they are not, which makes every mask 1 everywhere.
    ceiling = method.histogram.ceiling if method.histogram.ceiling < 255 else None
    return change_mask(photo, edit.detach(), threshold=method.histogram.threshold, ceiling=ceiling, eight_bit=True)

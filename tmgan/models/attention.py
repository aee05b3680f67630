"""Attention of image features to the words of a caption: over positions, and over channels.

Every sample masks its own padding in both modules, so that an edit does not depend on how far its caption was padded.
`as_published=True` restores the published behaviour: a spatial mask that reads another sample's padding, and no mask
over channels. Logits are sums over up to 65536 products, so both modules compute in fp32 or better.
"""

import torch
from torch import Tensor, nn

from tmgan.models.precision import at_least_float32


class SpatialAttention(nn.Module):
    """What the words say at each position. Source: AttnGAN (Xu et al., CVPR 2018), section 3.1.

    Args:
        own_value: give another projection of the words than the one that is compared with. Not published: what a word
            is about, and what it asks for there, are then learned apart.
    """

    def __init__(self, channels: int, word_dim: int, as_published: bool = False, own_value: bool = False):
        super().__init__()
        self.project = nn.Conv1d(word_dim, channels, 1, bias=False)
        self.value = nn.Conv1d(word_dim, channels, 1, bias=False) if own_value else None
        self.as_published = as_published

    def forward(self, h: Tensor, words: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Attend from every position to the words.

        Args:
            h: (B, C, H, W).
            words: (B, E, L).
            padding: (B, L) bool, True where there is no word.

        Returns:
            The context (B, C, H, W) in the dtype of h, and the attention map (B, L, H, W) that sums to 1 over L.
        """
        batch, channels, height, width = h.shape
        query = at_least_float32(self.project(words))  # (B, C, L)
        value = query if self.value is None else at_least_float32(self.value(words))
        with torch.autocast(h.device.type, enabled=False):
            positions = at_least_float32(h).flatten(2).transpose(1, 2)  # (B, HW, C)
            logits = positions @ query
            # As published: row b * HW + p takes the mask of sample (b * HW + p) mod B, not of sample b.
            published = self.as_published
            mask = padding.repeat(height * width, 1).view_as(logits) if published else padding[:, None, :]
            attention = torch.softmax(logits.masked_fill(mask, float("-inf")), dim=2)
            context = attention @ value.transpose(1, 2)  # (B, HW, C): channels_last once reshaped
        context = context.transpose(1, 2).reshape(batch, channels, height, width).to(h.dtype)
        return context, attention.transpose(1, 2).reshape(batch, -1, height, width)


class ChannelAttention(nn.Module):
    """Which words each channel is about. Projects words to whole planes, so it is tied to one resolution.

    Source: ControlGAN (Li et al., NeurIPS 2019).
    """

    def __init__(self, size: int, word_dim: int, as_published: bool = False):
        super().__init__()
        self.size = size
        self.project = nn.Conv1d(word_dim, size * size, 1, bias=False)
        self.as_published = as_published

    def forward(self, h: Tensor, words: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Attend from every channel to the words.

        Args:
            h: (B, C, size, size).
            words: (B, E, L).
            padding: (B, L) bool, True where there is no word.

        Returns:
            The context (B, C, size, size) in the dtype of h, and the attention (B, C, L) that sums to 1 over L.
        """
        assert h.shape[2:] == (self.size, self.size), (h.shape, self.size)
        planes = at_least_float32(self.project(words))  # (B, HW, L)
        with torch.autocast(h.device.type, enabled=False):
            # Positions before channels, as channels_last has them, so that the gradient of h has the same layout.
            logits = planes.transpose(1, 2) @ at_least_float32(h).flatten(2).transpose(1, 2)  # (B, L, C)
            if not self.as_published:  # As published: no mask, padded words take part with logit 0.
                logits = logits.masked_fill(padding[:, :, None], float("-inf"))
            attention = torch.softmax(logits, dim=1)
            context = planes @ attention  # (B, HW, C)
        return context.transpose(1, 2).reshape(h.shape).to(h.dtype), attention.transpose(1, 2)

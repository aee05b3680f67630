"""Embeddings of all training captions, computed once: the text encoder is frozen while the editor trains.

A step then gathers its captions by row, which needs no LSTM: cheaper, and one less thing a compiler cannot see through.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tmgan.models.encoders.text import TextEncoder
from tmgan.models.precision import at_least_float32
from tmgan.training.plan import CaptionTable

_CHUNK = 1024  # captions encoded at a time


class CaptionEmbeddings:
    """embeddings(rows) -> words, sentence of these rows of a caption table.

    Args:
        text: frozen.
        images: int64 (n,), the images whose captions, with their swaps and recolours, may be looked up; others cost no
            memory.
        dtype: to store in: float32, or float16 (words and sentences lie in [-1, 1], so it is 8 times finer than
            bfloat16). CUB's training captions as 8 subsets take about 4 GB in float32, on the device
            of `text`, and as much again for each swap or recolour of each.
    """

    @torch.no_grad()
    def __init__(self, text: TextEncoder, table: CaptionTable, images: Tensor, dtype: torch.dtype = torch.float32):
        device = text.embedding.weight.device
        first, count = table.of_image[images], table.of_image[images + 1] - table.of_image[images]
        captions = _ranges(first, count)
        own = _ranges(table.first[captions], table.variants[captions])
        rows = torch.cat([own, table.swaps[own].flatten(), table.recolours[own].flatten()]).unique()
        self._place = torch.full((len(table.lengths),), len(rows), dtype=torch.int64)  # of a row among those encoded
        self._place[rows] = torch.arange(len(rows))
        self._place = self._place.to(device)
        self.words = torch.empty(len(rows), text.dim, table.tokens.shape[1], dtype=dtype, device=device)
        self.sentences = torch.empty(len(rows), text.dim, dtype=dtype, device=device)
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            words, sentences = text(table.tokens[chunk].to(device), table.lengths[chunk].to(device))
            self.words[start : start + _CHUNK], self.sentences[start : start + _CHUNK] = words, sentences

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """rows (B,) int64 of the caption table -> words (B, D, L), exactly 0 at padding, and sentence (B, D)."""
        place = self._place[rows]
        return at_least_float32(self.words[place]), at_least_float32(self.sentences[place])


def _ranges(first: Tensor, count: Tensor) -> Tensor:
    """first[0] .. first[0] + count[0] - 1, first[1] .. and so on, in one tensor."""
    ends = count.cumsum(0)
    offset = torch.arange(int(ends[-1])) - torch.repeat_interleave(ends - count, count)
    return torch.repeat_interleave(first, count) + offset
